"""From the content of an image to RGB pixels, upright and without transparency."""

import io

import numpy as np
from PIL import Image

from .formats import open_image

EXIF_ORIENTATION = 0x0112
TIFF_BITS_PER_SAMPLE = 258
# From an orientation to the operation that turns the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(content):
    """Decode the content of an image.

    Parameters
    ----------
    content : ImageContent

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB, with EXIF orientation applied and transparency on white.
    """
    if isinstance(content.data, Image.Image):
        return content.data
    with open_image(io.BytesIO(content.data)) as image:
        image.load()
        return upright_rgb(image)


def image_from_array(array):
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def upright_rgb(image):
    """The image upright and in RGB; the image itself if nothing has to change."""
    if 0 in image.size:
        raise ValueError(f"its size is {image.size[0]} x {image.size[1]} pixels")
    return turned(in_rgb(image), orientation(image))


def orientation(image):
    """EXIF orientation of an image, from 1 (upright) to 8.

    Damaged EXIF data count as 1, because the pixels may still decode.
    """
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged data raise errors of any type
        return 1
    return value if value in range(1, 9) else 1


def turned(image, orientation):
    """The image turned upright from an EXIF orientation."""
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def in_rgb(image):
    """The image in mode RGB, with transparency on white."""
    if image.mode.startswith("I"):
        image = _from_deep_grey(image)
    if image.mode == "La":
        image = image.convert("LA")  # the only mode that Pillow converts it to
    if image.mode == "F":
        raise ValueError(
            "its pixels are floats, which have no standard range; convert them to uint8"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image):
    """Reduce grey to 8 bits; Pillow's own conversion would turn all values above 255 white."""
    deep = np.array(image, dtype=np.int32)
    n_bits = _stated_bits(image) or (8 if deep.max() <= 255 else 16)
    white = 2**n_bits - 1
    np.clip(deep, 0, white, out=deep)
    if n_bits != 8:
        deep *= 255
        deep += white // 2
        deep //= white
    return Image.fromarray(deep.astype(np.uint8))


def _stated_bits(image):
    """Bits per pixel of a deep grey file, or None if it does not state 16 bits or fewer.

    The mode does not state them: "I" and "I;16" also hold 8-bit images that were converted, and
    TIFF files of 12 or 32 bits.
    """
    if image.format == "TIFF":
        n_bits = image.tag_v2.get(TIFF_BITS_PER_SAMPLE, (16,))[0]
        return n_bits if n_bits <= 16 else None
    # Pillow scales the values of these formats to 16 bits.
    return 16 if image.format in ("PNG", "PPM", "JPEG2000", "ICO", "ICNS") else None
