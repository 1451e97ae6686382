"""Image formats: HEIC, and AVIF before Pillow 11.3, with pillow-heif; PostScript is refused."""

from functools import cache
from importlib.util import find_spec

from PIL import Image, features

# Brands in the first bytes of a file (ISO/IEC 14496-12 and 23008-12) and their formats.
BRANDS = dict.fromkeys([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"], "HEIC") | {
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"avif": "AVIF",
    b"avis": "AVIF",
}


class NoImage(ValueError):
    """An error for what is not an image, found without decoding; its text is a whole sentence."""


def open_image(file):
    """``Image.open`` that reads HEIC and AVIF if pillow-heif is installed, and no PostScript."""
    _register_formats()
    image = Image.open(file)
    if image.format == "EPS":  # Pillow would have Ghostscript run it
        image.close()
        raise NoImage("it is PostScript, which is a program; convert it to PNG")
    return image


def hint_at_format(head):
    """What to install for a file that begins with `head`, or an empty string.

    Parameters
    ----------
    head : bytes
        The first 12 bytes or more.

    Returns
    -------
    hint : str
    """
    name = BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
    return "" if name is None else f": {name} needs pip install -U pillow 'skcandle[heif]'"


@cache
def _register_formats():
    if find_spec("pillow_heif") is not None:  # pragma: no branch - one of the extras
        import pillow_heif

        pillow_heif.register_heif_opener()
        has_avif = "avif" in features.modules and features.check("avif")
        if not has_avif and hasattr(pillow_heif, "register_avif_opener"):
            pillow_heif.register_avif_opener()  # pragma: no cover - Pillow before 11.3
