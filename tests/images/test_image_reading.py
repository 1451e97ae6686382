import io
import os

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps, TiffImagePlugin, features

from skcandle._images.file_digests import file_digests
from skcandle._images.inputs import as_image_list
from skcandle._images.pixels import decode_image
from skcandle._images.reading import read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SHAPE = (6, 4)  # height, width


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(image):
    return np.asarray(decode_image(read_image(image)))


def assert_colour(image, colour, tolerance=0):
    expected = np.broadcast_to(np.array(colour, dtype=np.uint8), (*SHAPE, 3))
    np.testing.assert_allclose(pixels(image).astype(int), expected, atol=tolerance)


def plain(mode, colour):
    return Image.new(mode, SHAPE[::-1], colour)


def palette(transparency=None):
    image = plain("P", 1)
    image.putpalette([*WHITE, *RED])
    return encode(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


@pytest.mark.parametrize(
    "image, colour",
    [
        (plain("RGB", RED), RED),
        (plain("1", 1), WHITE),
        (plain("L", 90), (90, 90, 90)),
        (plain("LA", (90, 255)), (90, 90, 90)),
        (plain("LA", (90, 0)), WHITE),
        (plain("RGBA", (*BLUE, 255)), BLUE),
        (plain("RGBA", (*BLUE, 0)), WHITE),
        (plain("RGBA", (0, 0, 0, 51)), (204, 204, 204)),
        (palette(), RED),
        (palette(transparency=1), WHITE),
        (palette(transparency=0), RED),
        (encode(plain("RGB", RED), "PNG", transparency=RED), WHITE),
        (plain("CMYK", (0, 255, 255, 0)), RED),
        (encode(plain("I;16", 65535), "PNG"), WHITE),
        (encode(plain("I;16", 128 * 257), "PNG"), (128, 128, 128)),
        (plain("I", 128 * 257), (128, 128, 128)),
        (np.full(SHAPE, 90, np.uint8), (90, 90, 90)),
        (np.full((*SHAPE, 1), 90, np.uint8), (90, 90, 90)),
        (np.full((*SHAPE, 4), (*BLUE, 0), np.uint8), WHITE),
    ],
)
def test_colours_are_those_a_person_sees(image, colour):
    assert_colour(image, colour)


def ramp(alpha=255):
    """All values of grey, opaque or of one opacity."""
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    return grey if alpha == 255 else Image.merge("LA", [grey, Image.new("L", grey.size, alpha)])


def twin(mode):
    """An image in a mode, and an image of 8 bits that looks the same."""
    if mode == "La":
        return ramp(128).convert("La"), ramp(128)
    if mode == "RGBa":
        return ramp(128).convert("RGBA").convert("RGBa"), ramp(128).convert("RGBA")
    if mode in ("1", "LAB"):  # black and white; LAB from a level of grey, whose a and b are 128
        white = Image.new(mode, (4, 4), 255 if mode == "1" else (255, 128, 128))
        return white, Image.new("L", (4, 4), 255)
    return ramp().convert("RGB").convert("HSV") if mode == "HSV" else ramp().convert(mode), ramp()


@pytest.mark.parametrize("mode", sorted(set(Image.MODES) - {"F"}))
def test_an_image_of_any_mode_is_its_8_bit_twin(mode):
    image, expected = twin(mode)
    assert image.mode == mode
    difference = pixels(image).astype(int) - pixels(expected)
    assert np.abs(difference).max() <= 2  # of conversions between colour spaces


def test_floats_are_refused():
    with pytest.raises(ValueError, match="its pixels are floats"):
        pixels(ramp().convert("F"))


def deep_ramp(dtype, white):
    """All values of grey as integers up to `white`."""
    return Image.fromarray((np.asarray(ramp(), dtype=np.int64) * white // 255).astype(dtype))


def twelve_bits():
    """A TIFF of 12 bits, two values in three bytes, which Pillow reads but does not write."""
    values = (np.asarray(ramp(), dtype=np.uint32).ravel() * 4095 + 127) // 255
    pairs = values[0::2] << 12 | values[1::2]
    strip = b"".join(int(pair).to_bytes(3, "big") for pair in pairs)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[256], tags[257] = 16, 16  # size
    tags[258], tags[259], tags[262], tags[277] = 12, 1, 1, 1  # bits, raw, black is 0, one channel
    tags[273], tags[278], tags[279] = 0, 16, len(strip)  # begins after the tags
    return b"II\x2a\x00\x08\x00\x00\x00" + tags.tobytes(8) + strip


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: encode(deep_ramp(np.uint16, 65535), "PNG"), id="16-bit PNG"),
        pytest.param(lambda: encode(deep_ramp(np.uint16, 65535), "TIFF"), id="16-bit TIFF"),
        pytest.param(lambda: encode(deep_ramp(np.uint16, 65535), "PPM"), id="16-bit PGM"),
        pytest.param(twelve_bits, id="12-bit TIFF"),
        pytest.param(lambda: encode(deep_ramp(np.int32, 65535), "TIFF"), id="32-bit TIFF, 65535"),
        pytest.param(lambda: encode(ramp().convert("I"), "TIFF"), id="32-bit TIFF, 255"),
    ],
)
def test_deep_grey_of_a_file_is_its_8_bit_twin(data):
    np.testing.assert_array_equal(pixels(data()), pixels(ramp()))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_dark_file_of_16_bits_stays_dark(format, orientation):
    dark = plain("I;16", 255)
    exif = dark.getexif()
    exif[0x0112] = orientation
    assert pixels(encode(dark, format, exif=exif)).max() == 1  # 255 of 65535


@pytest.mark.parametrize(
    "format, options", [("PNG", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {})]
)
def test_lossless_formats_keep_every_pixel(format, options):
    assert_colour(encode(plain("RGB", GREEN), format, **options), GREEN, tolerance=1)


@pytest.mark.parametrize("mode, colour", [("RGB", RED), ("L", 76), ("CMYK", (0, 255, 255, 0))])
def test_jpeg_of_any_mode(mode, colour):
    expected = (76, 76, 76) if mode == "L" else RED
    assert_colour(encode(plain(mode, colour), "JPEG", quality=95), expected, tolerance=3)


def test_first_frame_of_an_animation():
    frames = [plain("RGB", RED), plain("RGB", BLUE)]
    assert_colour(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), RED)


def two_halves():
    """Upright: red above blue."""
    image = plain("RGB", RED)
    image.paste(BLUE, (0, SHAPE[0] // 2, *SHAPE[::-1]))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_that_of_pillow(orientation):
    image = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(*SHAPE, 3))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode(image, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(data), ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation, turn", [(3, 180), (6, 90), (8, 270)])
def test_exif_orientation_is_honoured(orientation, turn):
    turned = two_halves().rotate(turn, expand=True)
    exif = turned.getexif()
    exif[0x0112] = orientation
    data = encode(turned, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(data), two_halves())
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), two_halves())


DAMAGED_EXIF = {
    "garbage": b"garbage",
    "header alone": b"Exif\0\0",
    "no TIFF": b"Exif\0\0" + b"\xff" * 50,
    "truncated in the header": b"Exif\0\0MM\0*",
    "truncated in a tag": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03",
    "offset beyond the end": b"Exif\0\0MM\0*\x7f\xff\xff\xff\0\x01",
    "orientation 99": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63" + bytes(6),
}


@pytest.mark.filterwarnings("ignore:.*(EXIF|Tag data|Truncated)")
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
@pytest.mark.parametrize("format", ["WEBP", "PNG", "JPEG"])
def test_damaged_exif_data_cost_no_image(format, damage):
    if format == "WEBP" and not features.check("webp"):
        pytest.skip("Pillow without WebP")
    image = two_halves()
    data = encode(image, format, exif=DAMAGED_EXIF[damage])
    np.testing.assert_array_equal(pixels(data), pixels(encode(image, format)))
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(pixels(opened), pixels(data))


def test_postscript_is_not_run(monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    with pytest.raises(ValueError, match="PostScript, which is a program; convert it to PNG"):
        pixels(encode(plain("RGB", RED), "EPS"))


def test_the_callers_image_is_left_as_it_was():
    image = plain("RGBA", (*RED, 0))
    read_image(image)
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(image, plain("RGBA", (*RED, 0)))


def test_digest_tells_content_not_container(tmp_path):
    image = two_halves()
    path = tmp_path / "image.png"
    path.write_bytes(encode(image, "PNG"))
    array = np.asarray(image)
    assert read_image(image).digest == read_image(array).digest
    assert read_image(image).digest == read_image(np.asfortranarray(array)).digest
    assert read_image(image).digest == read_image(image.convert("RGBA")).digest
    assert read_image(path).digest == read_image(str(path)).digest
    assert read_image(path).digest == read_image(path.read_bytes()).digest


def test_digest_tells_shapes_with_equal_bytes_apart():
    pixels = np.arange(72, dtype=np.uint8)
    digests = {read_image(pixels.reshape(h, w, 3)).digest for h, w in [(4, 6), (6, 4), (3, 8)]}
    assert len(digests) == 3


def test_digest_follows_new_content_of_a_file(tmp_path):
    path = tmp_path / "image.png"
    digests = set()
    for colour in (RED, BLUE):
        path.write_bytes(encode(plain("RGB", colour), "PNG"))
        digests.add(read_image(path).digest)
    assert len(digests) == 2


ARRAY = np.zeros((*SHAPE, 3), np.uint8)


@pytest.mark.parametrize(
    "X",
    [
        [ARRAY, ARRAY],
        (ARRAY, ARRAY),
        np.stack([ARRAY, ARRAY]),
        [ARRAY, plain("RGB", RED)],
        [b"encoded", ARRAY],
        np.array([b"encoded", plain("RGB", RED)], dtype=object),
        np.array([[b"a"], [b"b"]], dtype=object),
    ],
)
def test_containers(X):
    assert len(as_image_list(X)) == 2


def test_pandas_containers(tmp_path):
    pd = pytest.importorskip("pandas")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(encode(plain("RGB", RED), "PNG"))
    names = [str(path) for path in paths]
    for X in (
        pd.Series(names),
        pd.Series(names, dtype="string"),
        pd.Series(names, dtype="category"),
        pd.DataFrame({"path": names}),
        pd.Series(paths),
        np.array(names),
    ):
        assert list(map(str, as_image_list(X))) == names


@pytest.mark.parametrize(
    "X, error, message",
    [
        ("cat.jpg", TypeError, r"must be a list of images, got a single str.*\[X\]"),
        (b"cat", TypeError, r"single bytes.*\[X\]"),
        (memoryview(b"cat"), TypeError, r"single memoryview.*\[X\]"),
        (io.BytesIO(b"cat"), TypeError, r"single BytesIO.*\[X\]"),
        (plain("RGB", RED), TypeError, r"single Image.*\[X\]"),
        ([], ValueError, r"0 sample\(s\)"),
        (np.empty((0, 8, 8, 3), np.uint8), ValueError, r"0 sample\(s\)"),
        (np.zeros((5, 20)), ValueError, r"\(5, 20\).*If these are features"),
        (np.zeros(5), ValueError, r"shape \(5,\) and dtype float64"),
        (ARRAY, ValueError, r"\[X\] for a single image"),
        (np.array([b"a\0", b"b"]), TypeError, "fixed-width bytes"),
        (iter([ARRAY]), TypeError, r"list\(X\)"),
        ({"a": 1}, TypeError, "got dict"),
        (5, TypeError, "got int"),
        ([ARRAY, None], TypeError, "image 1 is missing"),
        ([ARRAY, float("nan")], TypeError, "image 1 is missing"),
        ([ARRAY, 7], TypeError, "image 1 is of type int; each image must be a path"),
        ([ARRAY / 255], TypeError, r"image 0 .*float64.*255 \* image"),
        ([np.zeros((3, 32, 32), np.uint8)], ValueError, r"image 0 .*transpose\(1, 2, 0\)"),
        ([np.zeros((8, 8, 2), np.uint8)], ValueError, r"image 0 .*\(8, 8, 2\)"),
        ([np.zeros(8, np.uint8)], ValueError, r"image 0 .*\(8,\)"),
        ([np.zeros((0, 8, 3), np.uint8)], ValueError, "image 0 has no pixels"),
    ],
)
def test_what_is_no_collection_of_images_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        as_image_list(X)


def test_missing_path_of_a_pandas_string_series_is_named():
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="image 1 is missing"):
        as_image_list(pd.Series(["a.jpg", None], dtype="string"))


def test_dataframe_with_several_columns_is_refused():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"one column, got 2.*X\['path'\]"):
        as_image_list(pd.DataFrame({"path": ["a"], "label": ["b"]}))


def test_paths_in_an_array_of_numpys_strings():
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy 1 has no StringDType")
    names = np.array(["a.png", "images/b.png"], dtype=dtypes.StringDType())
    assert as_image_list(names) == as_image_list(names[:, None]) == ["a.png", "images/b.png"]


def test_a_file_that_grows_while_it_is_read_is_not_remembered(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.new("RGB", (4, 4)), "PNG"))
    os.utime(path, (1, 1))
    look, remembered = os.fstat, []

    def before_it_grew(handle):
        status = list(look(handle))
        status[6] -= 1  # its size
        return os.stat_result(status)

    monkeypatch.setattr(file_digests, "put", lambda *args: remembered.append(args))
    read_image(path)
    assert len(remembered) == 1
    monkeypatch.setattr(os, "fstat", before_it_grew)
    read_image(path)
    assert len(remembered) == 1
