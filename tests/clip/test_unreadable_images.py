"""What becomes of images that cannot be read: ``on_error``."""

import warnings

import numpy as np
import pytest
from helpers import random_images

from skcandle import CLIPFeaturizer
from skcandle.datasets import load_image_folder
from skcandle.exceptions import ImageReadError, UnreadableImageWarning
from skcandle.inspection._thumbnails import rgb_array, thumbnails


@pytest.fixture
def clip(tiny_clip, cold):
    return CLIPFeaturizer(tiny_clip, pretrained=None, batch_size=4, on_error="nan")


@pytest.fixture
def mixed(tmp_path):
    """Images of which 1, 4 and 6 cannot be read, two of them for the same content."""
    X = random_images(7)
    X[1], X[4], X[6] = b"no image", str(tmp_path / "none.png"), b"no image"
    return X


BAD = [1, 4, 6]


def test_unreadable_images_have_rows_of_nan_and_one_warning(clip, mixed):
    with pytest.warns(UnreadableImageWarning) as caught:
        rows = clip.fit_transform(mixed)
    assert len(caught) == 1
    assert "3 of 7 images cannot be read and have rows of NaN; the first is image 1" in str(
        caught[0].message
    )
    assert caught[0].message.positions == BAD
    assert "none.png' cannot be opened" in caught[0].message.reasons[4]
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == BAD
    good = np.delete(np.arange(7), BAD)
    np.testing.assert_array_equal(rows[good], clip.transform([mixed[i] for i in good]))


def test_missing_images_have_rows_of_nan(clip):
    pd = pytest.importorskip("pandas")
    image = random_images(1)[0]
    for X in ([image, None], pd.Series([image, np.nan]), pd.Series([image, pd.NA])):
        with pytest.warns(UnreadableImageWarning, match="image 1: it is missing"):
            assert np.isnan(clip.fit_transform(X)).all(axis=1).tolist() == [False, True]


def test_what_is_of_a_wrong_kind_is_an_error_still(clip):
    with pytest.raises(TypeError, match="image 1 is of type int"):
        clip.transform([random_images(1)[0], 3])


def test_failures_are_not_cached(clip, tmp_path):
    path = tmp_path / "1.png"
    clip.set_params(cache=str(tmp_path / "cache"))
    with pytest.warns(UnreadableImageWarning):
        assert np.isnan(clip.transform([path])).all()
    random_images(1)[0].save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(clip.transform([path])).all()


def test_all_may_be_unreadable(clip):
    with pytest.warns(UnreadableImageWarning, match="2 of 2"):
        assert np.isnan(clip.transform([b"a", b"b"])).all()


def test_by_default_the_others_are_encoded_before_the_error(clip, mixed, encoded):
    clip.set_params(on_error="raise")
    with pytest.raises(ImageReadError) as caught:
        clip.transform(mixed)
    assert caught.value.positions == BAD
    assert sum(encoded) == 4


def test_on_error_is_constrained():
    with pytest.raises(ValueError, match="'on_error' parameter of CLIPFeaturizer must"):
        CLIPFeaturizer(on_error="skip").fit()


def test_a_data_set_has_a_table_of_failures_whatever_on_error_says(clip, tmp_path):
    pytest.importorskip("dask")
    pytest.importorskip("distributed")
    pytest.importorskip("pyarrow")
    from skcandle.scale_out import encode_dataset, read_embeddings

    images, keys = [*random_images(2), b"no image"], ["a", "b", "c"]
    with pytest.warns(UserWarning, match="1 images cannot be read"):
        failures = encode_dataset(images, tmp_path / "data", clip, keys=keys)
    assert failures["key"].tolist() == ["c"]
    assert sorted(read_embeddings(tmp_path / "data")[0]) == ["a", "b"]


def test_images_of_a_dataset_go_to_workers(clip, tmp_path):
    pytest.importorskip("dask")
    pytest.importorskip("distributed")
    pytest.importorskip("pyarrow")
    from torchvision.datasets import FakeData

    from skcandle.scale_out import encode_dataset, read_embeddings

    dataset = FakeData(size=2, image_size=(3, 20, 24))
    encode_dataset(dataset, tmp_path / "data", clip, keys=["a", "b"])
    _, X = read_embeddings(tmp_path / "data", ["a", "b"])
    np.testing.assert_allclose(X, clip.transform(dataset), atol=1e-6)


def run_out_of_memory(*args, **kwargs):
    raise MemoryError


@pytest.mark.parametrize(
    "function, work",
    [
        ("clip._image_pipeline.reread", lambda path, clip: clip.transform([path])),
        ("_images.failures.open_image", lambda path, clip: load_image_folder(path.parents[1])),
        ("clip._preprocessing.open_image", lambda path, clip: clip.transform([path])),
        ("_images.pixels.Image.Image.getexif", lambda path, clip: clip.transform([path])),
        ("inspection._thumbnails.thumbnail", lambda path, clip: rgb_array(path, 8)),
        ("inspection._thumbnails.thumbnail", lambda path, clip: thumbnails([path], [0], 8)),
    ],
)
def test_out_of_memory_is_no_damaged_image(function, work, clip, tmp_path, monkeypatch):
    path = tmp_path / "class" / "image.jpg"
    path.parent.mkdir()
    random_images(1, size=(400, 400))[0].save(path)
    monkeypatch.setattr(f"skcandle.{function}", run_out_of_memory)
    with pytest.raises(MemoryError):
        work(path, clip)
