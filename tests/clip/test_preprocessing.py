"""Decoding at reduced scale: close to the full decode, for every kind of JPEG, never if exact."""

import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw, ImageFont, ImageOps, JpegImagePlugin

from skcandle import CLIPFeaturizer
from skcandle._images.reading import read_image
from skcandle.clip import _preprocessing
from skcandle.clip._preprocessing import REDUCED_MARGIN, Preprocessing

SIZE = 64  # of the pixels a model takes
LARGE = int(2 * REDUCED_MARGIN * SIZE)  # from this length of the shorter side on, less is decoded


def preprocessing(**config):
    return Preprocessing({"size": SIZE} | config)


def encoded(image, form="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exact_and_reduced(data, preprocess=None):
    preprocess = preprocess or preprocessing()
    return (preprocess(read_image(data), exact).numpy() for exact in (True, False))


def psnr(a, b):
    mean_square = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return np.inf if mean_square == 0 else 10 * np.log10(255**2 / mean_square)


def photograph(width, height, seed=0):
    """An image with structure of all sizes, as photographs have."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells in (3, 12, 48, 192):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((width, height))) / cells**0.5
    return Image.fromarray(np.uint8(pixels * 255 / pixels.max()))


def text(width, height, font_size):
    rng = np.random.default_rng(font_size)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(font_size)
    for y in range(0, height, int(1.25 * font_size)):
        line = "".join(rng.choice(list("the quick brown fox ,."), 2 * width // font_size))
        draw.text((3, y), line, fill="black", font=font)
    return image


def black_and_white(pattern):
    return Image.fromarray(np.repeat(np.uint8(255 * (pattern % 2))[..., None], 3, axis=2))


def stripes(width, height, period, slope):
    x = np.arange(width) + slope * np.arange(height)[:, None]
    return black_and_white(x // period)


def checks(width, height, period):
    return black_and_white(np.arange(width) // period + np.arange(height)[:, None] // period)


PATTERNS = {
    "photograph": photograph,
    **{f"text of {n} pixels": lambda w, h, n=n: text(w, h, n) for n in (10, 14, 20, 40)},
    **{f"stripes of {n}": lambda w, h, n=n: stripes(w, h, n, 0) for n in (1, 3, 8, 13)},
    **{f"oblique stripes of {n}": lambda w, h, n=n: stripes(w, h, n, 0.37) for n in (1, 3, 8, 13)},
    "checks of 1": lambda w, h: checks(w, h, 1),
    "checks of 2": lambda w, h: checks(w, h, 2),
}


@pytest.mark.parametrize(
    "size",
    [
        (1183, 1301),
        pytest.param((1500, 1176), marks=pytest.mark.slow),
        pytest.param((2400, 2355), marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_reduced_decoding_is_close_to_the_full_decode(pattern, size):
    half_of_common = preprocessing(size=112)
    data = encoded(PATTERNS[pattern](*size), quality=90)
    exact, reduced = exact_and_reduced(data, half_of_common)
    assert psnr(exact, reduced) >= (52 if pattern == "photograph" else 45)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_after_reduced_decoding(orientation, resize_mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(1000, 701), exif=exif)
    exact, reduced = exact_and_reduced(data, preprocessing(resize_mode=resize_mode))
    assert psnr(exact, reduced) > 50
    assert np.any(exact != reduced)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_keep_no_jpeg_from_reduced_decoding():
    for exif in (b"garbage", b"Exif\0\0" + b"\xff" * 50):
        exact, reduced = exact_and_reduced(encoded(photograph(1000, 701), exif=exif))
        assert psnr(exact, reduced) > 50
        assert np.any(exact != reduced)


def test_a_photograph_of_two_pictures_counts_its_first():
    data = encoded(
        photograph(900, 700), "MPO", save_all=True, append_images=[photograph(900, 700, 1)]
    )
    exact, reduced = exact_and_reduced(data)
    assert psnr(exact, reduced) > 50


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:1:1"},
        {"subsampling": "4:2:2"},
        {"restart_marker_rows": 1},
        {"optimize": True, "quality": 30},
        {"icc_profile": b"0" * 200},
        {"mode": "L"},
        {"mode": "CMYK"},
    ],
    ids=str,
)
def test_reduced_decoding_of_every_kind_of_jpeg(options):
    image = photograph(1003, 777).convert(options.pop("mode", "RGB"))
    exact, reduced = exact_and_reduced(encoded(image, **options))
    assert psnr(exact, reduced) > 50
    assert np.any(exact != reduced)


@pytest.mark.parametrize(
    "image, form",
    [
        (photograph(LARGE + 200, LARGE - 1), "JPEG"),
        (photograph(1000, 700), "PNG"),
        (photograph(1000, 700), "WEBP"),
        (photograph(20000, 1), "JPEG"),
        (photograph(1, 20000), "JPEG"),
    ],
    ids=["small", "PNG", "WEBP", "row", "column"],
)
def test_what_gains_nothing_is_decoded_in_full(image, form):
    exact, fast = exact_and_reduced(encoded(image, form))
    assert np.abs(exact.astype(int) - fast).max() <= 1


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(1000, 700), (701, 1303), (65, 64), (200, 64), (640, 480)])
def test_resizing_of_tensors_is_that_of_images(size, resize_mode):
    image = np.asarray(photograph(*size))
    exact, fast = exact_and_reduced(image, preprocessing(resize_mode=resize_mode))
    assert np.abs(exact.astype(int) - fast).max() <= 1


@pytest.mark.parametrize("size", [(30, 31), (5, 400), (64, 64)])
def test_small_images_are_resized_exactly(size):
    exact, fast = exact_and_reduced(np.asarray(photograph(*size)))
    np.testing.assert_array_equal(exact, fast)


@pytest.mark.parametrize(
    "config", [{"resize_mode": "longest"}, {"size": (SIZE, 2 * SIZE)}], ids=str
)
def test_other_kinds_of_resizing_decode_in_full(config):
    exact, reduced = exact_and_reduced(encoded(photograph(1601, 1403)), preprocessing(**config))
    np.testing.assert_array_equal(exact, reduced)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(1000, 700), (701, 1303), (30, 31), (5, 400)])
def test_exact_pixels_are_those_of_open_clip(size, resize_mode):
    image = photograph(*size)
    config = {"size": SIZE, "resize_mode": resize_mode}
    exact = Preprocessing(config)(read_image(encoded(image, "PNG")), exact=True)
    *steps, _, _ = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
    expected = image
    for step in steps:
        expected = step(expected)
    np.testing.assert_array_equal(exact.numpy(), np.asarray(expected))


@pytest.mark.parametrize("size", [(2, 400), (401, 3), (4, 1201), (1, 20_000)])
def test_ends_of_a_strip_are_cut_off_before_it_is_resized(size, monkeypatch):
    image, areas, resize = photograph(*size), [], Image.Image.resize

    def watched(self, size, *args, **kwargs):
        areas.append(size[0] * size[1])
        return resize(self, size, *args, **kwargs)

    config = {"size": SIZE}
    expected = image_transform_v2(PreprocessCfg(**config), is_train=False)(image)
    monkeypatch.setattr(Image.Image, "resize", watched)
    preprocess = preprocessing()
    pixels = [preprocess(read_image(image), exact) for exact in (True, False)]
    assert max(areas) <= 103 * SIZE**2
    for found in pixels:
        found = preprocess.normalise(found.permute(2, 0, 1) / 255)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_exact_pixels_need_no_draft(monkeypatch):
    def fail(*args):
        raise AssertionError("decoded at reduced scale")

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", fail)
    preprocessing()(read_image(encoded(photograph(1000, 700))), exact=True)


def test_a_reduced_decode_that_fails_is_repeated_in_full(monkeypatch):
    def fail(image):
        raise OSError("unsupported scale")

    data = encoded(photograph(1000, 700))
    exact = preprocessing()(read_image(data), exact=True).numpy()
    monkeypatch.setattr(_preprocessing, "in_rgb", fail)
    fast = preprocessing()(read_image(data), exact=False).numpy()
    assert np.abs(exact.astype(int) - fast).max() <= 1


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_jpeg_gives_the_error_of_the_full_decode(kept):
    data = encoded(photograph(1000, 700))
    content = read_image(data[: int(kept * len(data))])
    errors = []
    for exact in (True, False):
        with pytest.raises(OSError) as caught:
            preprocessing()(content, exact)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.fixture
def by_torchvision(monkeypatch):
    """The shapes of the images that torchvision decoded."""
    decode, shapes = _preprocessing.decode_jpeg, []

    def watched(*args):
        pixels = decode(*args)
        shapes.append(tuple(pixels.shape))
        return pixels

    monkeypatch.setattr(_preprocessing, "decode_jpeg", watched)
    return shapes


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(200, 150), (97, 301), (65, 66)], ids=str)
def test_torchvision_decodes_what_pillow_decodes(by_torchvision, size, mode, resize_mode):
    content = read_image(encoded(photograph(*size).convert(mode)))
    preprocess = preprocessing(resize_mode=resize_mode)
    expected = preprocess(content, exact=False).numpy()
    assert by_torchvision == []
    found = preprocess(content, exact=False, in_many_threads=True)
    assert by_torchvision == [(3, *size[::-1])]
    assert found.is_contiguous() and found.shape == (SIZE, SIZE, 3)
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1


def test_embeddings_do_not_depend_on_the_decoder_of_a_jpeg(by_torchvision):
    model = CLIPFeaturizer("emoji-clip", precision="fp32", device="cpu")._encoder().model
    contents = [read_image(encoded(photograph(200, 150, seed))) for seed in range(4)]
    exact, threaded = (
        model.encode_images([model.preprocess(content, **how) for content in contents])
        for how in ({"exact": True}, {"exact": False, "in_many_threads": True})
    )
    assert len(by_torchvision) == 4
    assert (exact * threaded).sum(dim=1).min() >= 0.999


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, exif=exif)


@pytest.mark.parametrize(
    "encode",
    [
        lambda image: encoded(image, "PNG"),
        lambda image: encoded(image.convert("CMYK")),
        turned,
        lambda image: encoded(image.resize((50, 40))),  # grows
        lambda image: encoded(image.resize((900, 800))),  # is decoded at reduced scale
        lambda image: encoded(image.resize((8000, 60))),  # loses its ends first
        lambda image: image,
    ],
    ids=["PNG", "CMYK", "turned", "small", "large", "long", "in memory"],
)
def test_pillow_decodes_all_other_images_in_many_threads_too(by_torchvision, encode):
    content, preprocess = read_image(encode(photograph(200, 150))), preprocessing()
    found, expected = (preprocess(content, False, in_many_threads=many) for many in (True, False))
    np.testing.assert_array_equal(found, expected)
    assert by_torchvision == []


def test_exact_pixels_are_never_decoded_by_torchvision(by_torchvision):
    preprocessing()(read_image(encoded(photograph(200, 150))), exact=True, in_many_threads=True)
    assert by_torchvision == []


def test_pillow_decodes_what_torchvision_cannot(monkeypatch):
    def fail(*args):
        raise RuntimeError("torchvision was built without libjpeg")

    content, preprocess = read_image(encoded(photograph(200, 150))), preprocessing()
    expected = preprocess(content, exact=False)
    monkeypatch.setattr(_preprocessing, "decode_jpeg", fail)
    np.testing.assert_array_equal(preprocess(content, False, in_many_threads=True), expected)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_torchvision_accepts_no_truncated_jpeg(kept):
    data = encoded(photograph(200, 150))
    with pytest.raises(OSError):
        preprocessing()(read_image(data[: int(kept * len(data))]), False, in_many_threads=True)


def test_an_image_turned_by_its_owner_is_the_same_image():
    """The box of a reduced image whose last column is partly beyond its edge is turned as well."""
    image = stripes(1301, 2 * LARGE, 13, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, exif=exif, quality=95)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = preprocessing()(read_image(encoded(turned, "PNG")), exact=True).numpy()
    assert psnr(preprocessing()(read_image(data), exact=False).numpy(), expected) > 45
