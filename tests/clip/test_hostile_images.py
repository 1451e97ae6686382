"""Images as an adversary, or a bad day, makes them: the right row or the documented error.

Every test has to get by with one GiB beside what the process has, and with little time.
"""

import io
import os
import stat
import struct
import threading
import tracemalloc
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from skcandle import CLIPFeaturizer
from skcandle._images.failures import check_image_file, describe_failure
from skcandle._images.pixels import decode_image, in_rgb
from skcandle._images.reading import read_image
from skcandle.exceptions import ImageReadError

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.timeout(60)
GIB = 2**30


@pytest.fixture(autouse=True)
def little_memory():
    """An error of the memory for whoever takes more than a GiB."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def clip():
    return CLIPFeaturizer("emoji-clip", precision="fp32", n_jobs=1)


def picture(mode="RGB", size=(64, 48)):
    """Smooth, so that every codec keeps it; the same in every call."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(image):
    return np.asarray(decode_image(read_image(image)))


# --- cut off ---------------------------------------------------------------------------------

FORMATS = {
    "PNG": ("PNG", {}),
    "PNG of a palette": ("PNG", {"mode": "P"}),
    "JPEG": ("JPEG", {}),
    "JPEG, progressive": ("JPEG", {"progressive": True}),
    "JPEG, CMYK": ("JPEG", {"mode": "CMYK"}),
    "GIF": ("GIF", {"mode": "P"}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, deflated": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "WEBP": ("WEBP", {}),
    "WEBP, lossless": ("WEBP", {"lossless": True}),
    "AVIF": ("AVIF", {}),
    "JPEG2000": ("JPEG2000", {}),
    "ICO": ("ICO", {}),
    "PPM": ("PPM", {}),
    "TGA": ("TGA", {"compression": "tga_rle"}),
    "PCX": ("PCX", {}),
    "SGI": ("SGI", {}),
    "DDS": ("DDS", {}),
}


OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", FORMATS)
def test_an_image_cut_off_anywhere_is_whole_or_an_error(name):
    format, options = FORMATS[name]
    if format in OPTIONAL and not features.check(OPTIONAL[format]):
        pytest.skip(f"Pillow without {format}")
    options = dict(options)
    data = encoded(picture(options.pop("mode", "RGB")), format, **options)
    whole = pixels(data)
    n_errors = 0
    for n_bytes in range(0, len(data), 64):
        try:
            found = pixels(data[:n_bytes])
        except Exception as error:
            assert describe_failure(data[:n_bytes], error)
            n_errors += 1
        else:  # the end of some files is no part of the image
            np.testing.assert_array_equal(found, whole)
    assert n_errors >= 0.9 * len(range(0, len(data), 64))


# --- images that are read --------------------------------------------------------------------


def animated(format, **options):
    others = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    return encoded(picture(), format, save_all=True, append_images=others, **options)


def sixteen_bits(format):
    deep = np.asarray(picture("L"), dtype=np.uint16) * 257
    return encoded(Image.fromarray(deep), format)


def in_lab():
    to_lab = partial(ImageCms.profileToProfile, outputMode="LAB")
    lab = to_lab(picture(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    return encoded(lab, "TIFF")


def seen_through():
    """A palette whose colours have several opacities, on white."""
    image = picture().quantize(16)
    alphas = bytes(range(0, 256, 16))
    shown = image.copy()
    shown.info["transparency"] = alphas
    white = Image.new("RGBA", image.size, "white")
    return encoded(image, "PNG", transparency=alphas), Image.alpha_composite(
        white, shown.convert("RGBA")
    )


def grey(width, height):
    return Image.new("RGB", (width, height), (90, 90, 90))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DAMAGED_PROFILES = {
    "random": np.random.default_rng(0).bytes(3000),
    "cut off": SRGB[:100],
    "a wrong size": b"\xff\xff\xff\xff" + SRGB[4:],
    "one byte": b"\0",
}


def with_profile(format, profile, mode="RGB"):
    return encoded(picture(mode), format, icc_profile=profile), encoded(picture(mode), format)


# name: what is read, and an image of the same pixels within a cosine
READ = {
    "PNG with the suffix of another": lambda: (encoded(picture(), "PNG"), picture()),
    "animated GIF": lambda: (animated("GIF"), encoded(picture(), "GIF")),
    "animated PNG": lambda: (animated("PNG"), picture()),
    "animated WebP": lambda: (animated("WEBP", lossless=True), picture()),
    "TIFF of several pages": lambda: (animated("TIFF"), picture()),
    "16-bit PNG": lambda: (sixteen_bits("PNG"), picture("L")),
    "16-bit TIFF": lambda: (sixteen_bits("TIFF"), picture("L")),
    "CMYK TIFF": lambda: (encoded(picture("CMYK"), "TIFF"), picture()),
    "CMYK JPEG": lambda: (encoded(picture("CMYK"), "JPEG", quality=95), picture()),
    "LAB": lambda: (in_lab(), picture()),
    "palette with opacities": seen_through,
    "a profile": lambda: with_profile("JPEG", SRGB),
    "CMYK with a profile": lambda: with_profile("TIFF", SRGB, "CMYK"),
    "one pixel": lambda: (encoded(grey(1, 1), "PNG"), grey(9, 9)),
    "a line": lambda: (encoded(grey(1, 20000), "PNG"), grey(9, 9)),
    "a row": lambda: (encoded(grey(20000, 1), "BMP"), grey(9, 9)),
    "bytes after the end": lambda: (encoded(picture(), "PNG") + b"PK\3\4" + bytes(9999), picture()),
} | {
    f"{format} with a profile that is damaged: {name}": partial(with_profile, format, profile)
    for format in ("PNG", "JPEG", "WEBP", "TIFF")
    for name, profile in DAMAGED_PROFILES.items()
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_odd_images_have_the_row_of_what_they_show(clip, name, tmp_path):
    image, shown = READ[name]()
    path = tmp_path / "photo.jpg"  # whatever it is
    path.write_bytes(image)
    first, second, expected = clip.transform([path, image, shown])
    np.testing.assert_array_equal(first, second)
    assert first @ expected > 0.99


@pytest.mark.parametrize("name", ["photo\n.png", "photo\x1b[2J\r\t.png", "%s {} '\" <b>.png"])
def test_odd_names_of_files(clip, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(picture(), "PNG"))
    np.testing.assert_array_equal(
        clip.transform([path, str(path)]), clip.transform([picture()] * 2)
    )
    path.write_bytes(b"broken")
    with pytest.raises(ImageReadError, match="not of a known image format") as caught:
        clip.transform([path])
    assert str(caught.value).isprintable()  # on one line


# --- what is no image, or too much of one ----------------------------------------------------


def png(width, height, *chunks, depth=8, colour=2):
    """A PNG of chunks that are given, whatever they hold."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


ZEROS = zlib.compress(bytes(200 * 2**20), 1)  # 200 MB in one
IDAT = (b"IDAT", zlib.compress(bytes(100)))


def bmp(width, height):
    header = 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", *header)


def gif(width, height):
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\0\0\0,\0\0\0\0" + size + b"\0\2\1\0\0;"


def zip_of_a_picture():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.png", encoded(picture(), "PNG"))
    return file.getvalue()


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"
UNKNOWN, TOO_LARGE = "is not of a known image format", "is too large: the limit is 179 megapixels"
DAMAGED = "is broken or truncated|is not of a known image format"
REFUSED = {
    "SVG": (SVG, UNKNOWN),
    "text": (b"a text\n" * 50, UNKNOWN),
    "HTML": (b"<!doctype html><title>404</title>" * 9, UNKNOWN),
    "PDF": (PDF, UNKNOWN),
    "a pickle": (b"cos\nsystem\n(S'touch /tmp/x'\ntR.", UNKNOWN),
    "ZIP": (zip_of_a_picture(), UNKNOWN),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript, which is a"),
    "PNG without width": (png(0, 9, IDAT), DAMAGED),
    "PNG without height": (png(9, 0, IDAT), DAMAGED),
    "GIF without pixels": (gif(0, 0), DAMAGED),
    "BMP without pixels": (bmp(0, 0), DAMAGED),
    "PNG of 3.6 gigapixels": (png(60_000, 60_000, IDAT), TOO_LARGE),
    "PNG of as many as there can be": (png(2**31 - 1, 2**31 - 1, IDAT), TOO_LARGE),
    "BMP of a terapixel": (bmp(10**6, 10**6), TOO_LARGE),
    "PPM of a terapixel": (b"P6 1000000 1000000 255\n" + bytes(99), TOO_LARGE),
    "GIF of 4.3 gigapixels": (gif(65535, 65535), TOO_LARGE),
    "PNG with a long text": (png(9, 9, (b"zTXt", b"a\0\0" + ZEROS), IDAT), DAMAGED),
    "PNG with a long profile": (png(9, 9, (b"iCCP", b"a\0\0" + ZEROS), IDAT), DAMAGED),
    "PNG cut off in a long chunk": (png(9, 9)[:-12] + b"\x7f\xff\xff\xffIDAT", DAMAGED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_named_with_the_reason(clip, name, tmp_path):
    data, message = REFUSED[name]
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for image in (path, data, io.BytesIO(data)):
        with pytest.raises(ImageReadError, match=f"image 1: .*({message})") as caught:
            clip.transform([picture(), image])
        assert caught.value.positions == [1]


@pytest.mark.parametrize("mode, dtype", [("I;16", np.uint16), ("I", np.int32)])
def test_grey_of_16_bits_takes_few_bytes_for_each_pixel(mode, dtype):
    pixels = np.full((1000, 1000), 60_000, dtype=dtype)
    image = Image.frombytes(mode, pixels.shape, pixels.tobytes())
    tracemalloc.start()
    in_rgb(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * pixels.size


def test_a_file_of_a_terabyte_is_not_read(clip, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture(), "PNG"))
    try:
        os.truncate(path, 2**40)
    except OSError:
        pytest.skip("no such files here")
    for image in (path, open(path, "rb"), open(path, "rb", buffering=0)):
        with pytest.raises(ImageReadError, match="photo.png' has 1099.5 GB; the limit is 1.1 GB"):
            clip.transform([image])
    assert "has 1099.5 GB" in check_image_file(str(path))


def test_what_is_open_and_has_no_end_is_not_read(clip):
    for buffering in (-1, 0):
        with open("/dev/zero", "rb", buffering=buffering) as file:
            with pytest.raises(ImageReadError, match="'/dev/zero' is not a regular file"):
                clip.transform([file])


def test_a_link_to_what_has_no_end_is_not_read(clip, tmp_path):
    (tmp_path / "photo.png").symlink_to("/dev/zero")
    with pytest.raises(ImageReadError, match="photo.png' is not a regular file"):
        clip.transform([tmp_path / "photo.png"])


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_device_in_a_folder_of_images_is_not_read(clip, tmp_path):
    path = tmp_path / "photo.png"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        pytest.skip("no devices here")
    with pytest.raises(ImageReadError, match="photo.png' is not a regular file"):
        clip.transform([path])


def test_a_file_without_permission_is_named(clip, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture(), "PNG"))
    path.chmod(0)
    tmp_path.chmod(0o755)
    clip.transform([picture()])
    is_root = os.geteuid() == 0  # who may read everything
    if is_root:
        os.seteuid(65534)
    try:
        if os.access(tmp_path.parent, os.X_OK, effective_ids=True):
            message = r"photo.png' cannot be opened \(Permission denied\)"
        else:  # nor its folder
            message = r"cannot be opened \(Permission denied\)"
        with pytest.raises(ImageReadError, match=f"image 1: .*{message}"):
            clip.transform([picture(), path])
    finally:
        if is_root:
            os.seteuid(0)


# --- files that change -----------------------------------------------------------------------


def remove(path):
    path.unlink()


def make_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def link_to_no_end(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "change, message",
    [
        (remove, "No such file"),
        (make_a_pipe, "is not a regular file"),
        (link_to_no_end, "is not a regular file"),
        (lambda path: path.write_bytes(b"other"), "changed while"),
    ],
    ids=["removed", "a pipe", "a device", "other bytes"],
)
def test_a_known_file_that_is_something_else_when_it_is_read_again(
    clip, tmp_path, monkeypatch, change, message, cold
):
    from skcandle.clip import _image_pipeline

    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture(), "PNG"))
    known = read_image(path)._replace(data=None)
    monkeypatch.setattr(_image_pipeline, "read_image", lambda image: known)
    change(path)
    with pytest.raises(ImageReadError, match=f"image 0: .*{message}"):
        clip.transform([path])


@pytest.mark.parametrize("change", [remove, make_a_pipe, link_to_no_end])
def test_a_file_that_changes_before_it_is_described(clip, tmp_path, monkeypatch, change):
    path = tmp_path / "photo.png"
    path.write_bytes(b"no image")

    def changing(image):
        content = read_image(image)
        change(path)
        return content

    monkeypatch.setattr("skcandle.clip._image_pipeline.read_image", changing)
    with pytest.raises(ImageReadError, match="photo.png' is not of a known image format"):
        clip.transform([path])


def test_a_file_that_is_written_while_it_is_read_has_a_row_it_has_had_or_none(clip, tmp_path):
    path, beside = tmp_path / "photo.png", tmp_path / "beside.png"
    versions = [encoded(picture(), "PNG"), encoded(picture().rotate(180), "PNG")]
    rows = clip.transform(versions)
    path.write_bytes(versions[0])
    done = threading.Event()

    def write():
        i = 0
        while not done.is_set():
            data = versions[i % 2]
            if i % 3:  # in place, in two parts
                with open(path, "wb", buffering=0) as file:
                    file.write(data[:2000])
                    file.write(data[2000:])
            else:
                beside.write_bytes(data)
                os.replace(beside, path)
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    outcomes = {0: 0, 1: 0, "error": 0}
    try:
        for _ in range(300):
            try:
                row = clip.transform([path])[0]
            except ImageReadError:
                outcomes["error"] += 1
            else:
                outcomes[int(np.abs(rows - row).max(axis=1).argmin())] += 1
                assert np.abs(rows - row).max(axis=1).min() < 1e-6
    finally:
        done.set()
        writer.join()
    assert outcomes[0] and outcomes[1]
    for data, row in zip(versions, rows, strict=True):
        path.write_bytes(data)
        np.testing.assert_array_equal(clip.transform([path])[0], row)
