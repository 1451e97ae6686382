import io
import os
import pickle
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import joblib
import numpy as np
import open_clip
import pytest
import sklearn
import torch
from helpers import open_clip_rows, random_images
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import check_is_fitted

from skcandle import CLIPFeaturizer
from skcandle.clip import _image_pipeline
from skcandle.clip._cache.memory import memory_cache
from skcandle.exceptions import (
    DeviceNotAvailableError,
    ImageReadError,
    ModelError,
    TruncatedPromptWarning,
)

N_FEATURES = 64


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip, pretrained=None, batch_size=4)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths, random_images(5), strict=True):
        path.write_bytes(png(image))
    return paths


def test_rows_are_unit_float32_and_those_of_open_clip(clip, tiny_clip, cold):
    images = random_images(7)
    rows = clip.set_params(precision="fp32").fit_transform(images)
    assert rows.shape == (7, N_FEATURES)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    model, _, preprocess = open_clip.create_model_and_transforms(tiny_clip)
    np.testing.assert_allclose(rows, open_clip_rows(images, model, preprocess), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_every_kind_of_input_gives_identical_rows(clip, files, n_jobs, cold):
    pd = pytest.importorskip("pandas")
    clip.set_params(n_jobs=n_jobs)
    names = [str(path) for path in files]
    opened = [Image.open(path) for path in files]
    arrays = [np.asarray(image) for image in opened]
    encoded = [path.read_bytes() for path in files]
    streams = [io.BytesIO(content) for content in encoded]
    mixed = [names[0], files[1], opened[2], arrays[3], encoded[4]]
    expected = clip.transform(names)
    for X in (
        files,
        tuple(names),
        np.array(names),
        np.array(names, dtype=object),
        np.array(names)[:, None],
        pd.Series(names, index=[3, 1, 4, 1, 5]),
        pd.DataFrame({"path": names}),
        pd.Series(arrays),
        opened,
        arrays,
        np.stack(arrays),
        encoded,
        list(map(bytearray, encoded)),
        list(map(memoryview, encoded)),
        streams,
        np.array(streams, dtype=object),
        mixed,
    ):
        memory_cache.clear()
        np.testing.assert_array_equal(clip.transform(X), expected)


def test_a_row_does_not_depend_on_order_or_company(clip, cold):
    images = random_images(8)
    rows = clip.transform(images)
    order = np.random.default_rng(0).permutation(8)
    memory_cache.clear()
    np.testing.assert_array_equal(clip.transform([images[i] for i in order]), rows[order])
    memory_cache.clear()
    strangers = random_images(3, seed=1)
    np.testing.assert_array_equal(clip.transform([*strangers, images[5]])[3], rows[5])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_row_depends_on_the_batch_size_by_rounding_only(clip, batch_size, cold):
    images = random_images(8)
    rows = clip.transform(images)
    memory_cache.clear()
    other = clone(clip).set_params(batch_size=batch_size).transform(images)
    np.testing.assert_allclose(other, rows, atol=1e-6, rtol=0)


def test_duplicates_are_encoded_once(clip, files, encoded):
    rows = clip.transform([*files, *files[::-1], *files])
    assert sum(encoded) == 5
    np.testing.assert_array_equal(rows[:5], rows[5:10][::-1])


def test_batches_are_full_however_many_images_are_cached(clip, encoded):
    images = random_images(12)
    clip.transform(images[::3])
    encoded.clear()
    clip.transform(images)
    assert encoded == [4, 4]


def test_grid_search_encodes_each_image_once(clip, encoded):
    images = random_images(24)
    y = np.arange(24) % 2
    pipe = make_pipeline(clip, LogisticRegression())
    grid = {"logisticregression__C": np.logspace(-3, 3, 8)}
    search = GridSearchCV(pipe, grid, cv=3, refit=True).fit(images, y)
    search.predict(images)
    assert sum(encoded) == 24


def test_cached_images_need_no_model(clip, files, encoded, no_loading):
    rows = clip.transform(files)
    text = clip.encode_text(["a cat"])
    no_loading()
    np.testing.assert_array_equal(clone(clip).transform(files[::-1]), rows[::-1])
    np.testing.assert_array_equal(clone(clip).encode_text(["a cat"]), text)


def test_new_content_of_a_file_is_encoded_anew(clip, files):
    old = clip.transform(files)
    files[2].write_bytes(png(random_images(1, seed=1)[0]))
    new = clip.transform(files)
    np.testing.assert_array_equal(np.any(old != new, axis=1), np.arange(5) == 2)


def test_rows_may_be_changed_without_changing_the_cache(clip):
    images = random_images(2)
    rows = clip.transform(images)
    expected = rows.copy()
    rows[:] = 0
    np.testing.assert_array_equal(clip.transform(images), expected)


def damaged_images():
    jpeg = io.BytesIO()
    random_images(1)[0].save(jpeg, "JPEG")
    return {
        "truncated JPEG": (jpeg.getvalue()[:-300], "broken or truncated"),
        "truncated PNG": (png(random_images(1)[0])[:-3000], "broken or truncated"),
        "no image": (b"hello", "not of a known image format"),
        "floats": (Image.new("F", (8, 8)), "floats, which have no standard range"),
        "no pixels": (Image.new("RGB", (0, 8)), "0 x 8 pixels"),
    }


@pytest.mark.parametrize("case", damaged_images())
def test_damaged_image_is_named_with_its_position(clip, case):
    image, message = damaged_images()[case]
    with pytest.raises(ImageReadError, match=f"1 of 3 images .*image 1: .*{message}.*leave"):
        clip.transform([*random_images(1), image, *random_images(1)])


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.jpg", r"missing.jpg' cannot be opened \(No such file"),
        ("", r"is a folder"),
        ("empty.jpg", r"empty.jpg' is empty \(0 bytes\)"),
        ("zero\0byte", "cannot be opened .*null"),
        ("pipe", "pipe' is not a regular file but a device, pipe or socket"),
        ("socket", "socket' (is not a regular file|cannot be opened)"),
    ],
)
def test_what_is_no_file_is_named(clip, tmp_path, name, message):
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.bind(str(tmp_path / "socket"))
        with pytest.raises(ImageReadError, match=f"1 of 2 images .*image 1: .*{message}"):
            clip.transform([random_images(1)[0], f"{tmp_path}/{name}"])


class Stream(io.BytesIO):
    """Counts how often it is read."""

    n_reads = 0

    def read(self, *args):
        self.n_reads += 1
        return super().read(*args)


@pytest.mark.parametrize("position", [0, 10, None])
def test_an_open_file_is_read_once_from_its_beginning_and_stays_where_it_was(clip, position):
    content = png(random_images(1)[0])
    stream = Stream(content)
    position = stream.seek(0 if position is None else position, 2 if position is None else 0)
    rows = clip.fit([stream]).transform([stream])
    np.testing.assert_array_equal(rows, clip.transform([content]))
    assert (stream.n_reads, stream.tell()) == (1, position)


def test_files_on_disk_may_be_given_open(clip, files, tmp_path):
    expected = clip.transform(files)
    with ExitStack() as stack:
        opened = [stack.enter_context(open(path, "rb")) for path in files]
        np.testing.assert_array_equal(clip.transform(opened * 2), np.tile(expected, (2, 1)))
    with pytest.raises(ImageReadError, match="image 0: the file '.*0.png' is closed; open it"):
        clip.transform(opened)


@pytest.mark.parametrize("n_jobs", [2, 4])
def test_threads_share_an_open_file(clip, n_jobs, monkeypatch, cold):
    monkeypatch.setattr(_image_pipeline, "WORTH_A_THREAD", 0)
    stream = io.BytesIO(png(random_images(1)[0]))
    rows = clip.set_params(n_jobs=n_jobs).transform([stream] * 100)
    np.testing.assert_array_equal(rows, np.tile(rows[0], (100, 1)))


class Once(io.BytesIO):
    def seekable(self):
        return False


class Text(io.BytesIO):
    def read(self):
        return "text"


@pytest.mark.parametrize(
    "image, error, message",
    [
        (io.StringIO("text"), TypeError, r"image 0 must be opened in binary mode, .*'rb'"),
        (Once(), TypeError, r"image 0 is a stream that can be read only once; .* read\(\)"),
        (Text(), ImageReadError, r"image 0: its read\(\) must return bytes, got str"),
        (io.BytesIO(), ImageReadError, "image 0: the file is empty"),
        (io.BytesIO(b"hello"), ImageReadError, "image 0: is not of a known image format"),
        (b"images/cat.jpg", ImageReadError, r"b'images/cat.jpg' is a path,.* os.fsdecode\(path\)"),
        ("none://b.png", ImageReadError, r"image 0: 'none://b.png' cannot be opened \(ValueError"),
        (Path("s3://bucket/b.png"), ImageReadError, "a URL needs two slashes, and Path drops one"),
    ],
)
def test_what_is_not_read_is_explained(clip, image, error, message):
    with pytest.raises(error, match=message):
        clip.transform([image])


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_devices_are_no_images(clip, device):
    with pytest.raises(ImageReadError, match=f"{device}' is not a regular file"):
        clip.transform([device])


def test_missing_empty_and_broken_files_are_reported_together(clip, tmp_path, encoded):
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    random_images(1)[0].save(paths[3])
    paths[4].write_bytes(b"something")
    paths[5].touch()
    with pytest.raises(ImageReadError, match=r"8 of 9 images.*image 0: .*; \.\.\.\)") as info:
        clip.transform(paths)
    assert info.value.positions == [0, 1, 2, 4, 5, 6, 7, 8]
    assert "not of a known image format" in info.value.reasons[4]
    assert "empty" in info.value.reasons[5]
    assert pickle.loads(pickle.dumps(info.value)).positions == info.value.positions
    assert encoded == [1]  # the only readable one, for the next call


def test_damaged_file_is_named(clip, files):
    files[3].write_bytes(files[3].read_bytes()[:500])
    with pytest.raises(ImageReadError, match="image 3: the file '.*3.png' is broken or truncated"):
        clip.transform(files)


def test_image_of_200_megapixels_is_refused_with_the_limit_and_the_remedy(clip, files):
    Image.new("1", (20_000, 10_000)).save(files[0])
    message = (
        "1 of 5 images .*image 0: the file '.*0.png' is too large: the limit is 179 megapixels "
        r".*\(200000000 pixels\).*Scale it down, or increase PIL.Image.MAX_IMAGE_PIXELS"
    )
    with pytest.raises(ImageReadError, match=message):
        clip.transform(files)


def test_a_damaged_image_costs_no_other_image(clip, files, encoded):
    files[1].write_bytes(b"hello")
    with pytest.raises(ImageReadError) as info:
        clip.transform([*files, files[1]])
    assert info.value.positions == [1, 5]
    assert sum(encoded) == 4
    good = np.delete(np.array(files, dtype=object), info.value.positions[0])
    clip.transform(good)
    assert sum(encoded) == 4


@pytest.mark.parametrize("X", ["cat.jpg", np.zeros((3, 4)), [None]])
def test_fit_refuses_what_is_no_collection_of_images(clip, X):
    with pytest.raises((TypeError, ValueError)):
        clip.fit(X)


def test_fit_checks_parameters_and_loads_nothing(tiny_clip, no_loading):
    no_loading()
    assert isinstance(CLIPFeaturizer().fit(random_images(1)), CLIPFeaturizer)
    with pytest.raises(ModelError):
        CLIPFeaturizer("ViT-B-16").fit()
    with pytest.raises(DeviceNotAvailableError, match="cuda:99"):
        CLIPFeaturizer(tiny_clip, device="cuda:99").fit()


@pytest.mark.parametrize("method", ["fit", "transform", "encode_text"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"model_name": None},
        {"pretrained": 3},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"device": 0},
        {"precision": "float32"},
        {"cache": 3},
        {"n_jobs": "all"},
        {"n_jobs": 0},
        {"verbose": -1},
    ],
)
def test_parameters_are_validated(clip, method, parameters):
    with pytest.raises(InvalidParameterError, match=f"The '{next(iter(parameters))}' parameter"):
        getattr(clip.set_params(**parameters), method)(["a"])


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_param_validation,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
    ],
)
def test_scikit_learn_checks_that_need_no_table(clip, check):
    check("CLIPFeaturizer", clip)


def test_default_construction():
    estimator_checks.check_parameters_default_constructible("CLIPFeaturizer", CLIPFeaturizer())


def test_needs_no_fit(clip):
    check_is_fitted(clip)
    assert not get_tags(clip).requires_fit
    assert not get_tags(clip).input_tags.two_d_array


def test_fit_learns_only_which_model_it_was(clip):
    before = dict(vars(clip))
    clip.fit_transform(random_images(1))
    assert vars(clip) == before | {"_identity": clip._identity}
    assert clip._identity == clip.fit()._identity is not None


def test_feature_names_and_representation_need_no_weights(no_loading):
    no_loading()
    names = CLIPFeaturizer().fit().get_feature_names_out()
    assert list(names[[0, -1]]) == ["clipfeaturizer0", "clipfeaturizer511"]
    assert names.dtype == object
    # This one would need the network even for its configuration.
    assert "hf-hub:no/model" in CLIPFeaturizer("hf-hub:no/model").fit()._repr_html_()


SKLEARN_VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
keeps_index_of_series = pytest.mark.skipif(
    SKLEARN_VERSION < (1, 8), reason="scikit-learn keeps the index of a Series since 1.8"
)


@pytest.mark.parametrize(
    "container", ["DataFrame", pytest.param("Series", marks=keeps_index_of_series)]
)
def test_pandas_output_keeps_the_index(clip, container):
    pd = pytest.importorskip("pandas")
    images = random_images(3)
    X = pd.Series(images, index=list("xyz"), dtype=object, name="image")
    frame = clip.set_output(transform="pandas").fit_transform(
        X if container == "Series" else X.to_frame()
    )
    assert list(frame.index) == list("xyz")
    assert list(frame.columns) == list(clip.get_feature_names_out())
    assert list(clip.transform(images).index) == [0, 1, 2]


def test_pickle_holds_parameters_only(clip):
    images = random_images(2)
    rows = clip.fit_transform(images)
    data = pickle.dumps(clip)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).transform(images), rows)


def test_threads_agree(clip, cold):
    images = random_images(6)
    expected = clip.transform(images)
    memory_cache.clear()
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: clone(clip).transform(images), range(8)):
            np.testing.assert_allclose(rows, expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_worker_processes_give_the_same_rows(clip, files):
    jobs = [joblib.delayed(clip.transform)(files[:4]) for _ in range(2)]
    for rows in joblib.Parallel(n_jobs=2, backend="loky")(jobs):
        np.testing.assert_allclose(rows, clip.transform(files[:4]), atol=1e-6, rtol=0)


def test_verbose_shows_images_per_second(clip, capsys, cold, monkeypatch):
    monkeypatch.setattr("skcandle.clip._image_pipeline.PROGRESS_DELAY", 0)
    clip.transform(random_images(5))
    assert capsys.readouterr() == ("", "")
    clip.set_params(verbose=1).transform(random_images(5))
    assert "5/5" in capsys.readouterr().err


def test_text_rows_are_unit_float32_and_those_of_the_model(clip, tiny_clip):
    prompts = ["a photo of a cat.", "a photo of a dog.", "a photo of a cat."]
    rows = clip.encode_text(prompts)
    assert rows.dtype == np.float32
    model, _, _ = open_clip.create_model_and_transforms(tiny_clip)
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(tiny_clip)(prompts)
        expected = model.eval().encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[2])


def test_a_text_row_does_not_depend_on_order(clip, cold):
    prompts = [f"a photo of number {i}" for i in range(8)]
    rows = clip.encode_text(prompts)
    memory_cache.clear()
    np.testing.assert_array_equal(clip.encode_text(prompts[::-1]), rows[::-1])


def test_prompts_too_long_for_the_model_warn_every_time(clip, recwarn):
    fits = " ".join(["cat"] * 14)  # 16 tokens with start and end
    clip.encode_text([fits])
    assert not recwarn
    for _ in range(2):
        with pytest.warns(TruncatedPromptWarning, match="1 of 2 prompts .* 16 tokens .*'cat cat"):
            rows = clip.encode_text([fits, fits + " dog"])
        np.testing.assert_allclose(*rows, atol=1e-6)


@pytest.mark.parametrize(
    "prompts, error, message",
    [
        ("a cat", TypeError, r"must be a list; use \['a cat'\]"),
        ([], ValueError, "prompts must not be empty"),
        (["a cat", 3], TypeError, "prompt 1 must be a string, got int"),
    ],
)
def test_prompts_are_checked(clip, prompts, error, message):
    with pytest.raises(error, match=message):
        clip.encode_text(prompts)


def test_bundled_model_needs_no_network():
    clip = CLIPFeaturizer("emoji-clip", pretrained=None)
    rows = clip.fit_transform(random_images(2))
    assert rows.shape == (2, len(clip.get_feature_names_out()))
    assert clip.encode_text(["a cat"]).shape == (1, rows.shape[1])


@pytest.mark.parametrize("X", [[], np.empty((0, 8, 8, 3), np.uint8), np.array([])])
def test_without_images_there_are_no_rows(X):
    clip = CLIPFeaturizer("emoji-clip").fit(X)
    rows = clip.transform(X)
    assert rows.shape == (0, 128) and rows.dtype == np.float32
