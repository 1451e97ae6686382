import numpy as np
import pytest

from skcandle.datasets import base_new_split, make_long_tailed


def class_sizes(y, indices):
    labels, counts = np.unique(y[indices], return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("dtype", [int, str])
@pytest.mark.parametrize("ratio, n_max", [(0.02, 50), (0.1, 30), (1.0, 7)])
def test_class_sizes_fall_exponentially(dtype, ratio, n_max):
    y = np.repeat(np.arange(5), 50).astype(dtype)
    order = np.array([3, 1, 0, 4, 2]).astype(dtype)
    indices = make_long_tailed(y, imbalance_ratio=ratio, n_max=n_max, order=order, random_state=0)
    expected = {
        label: int(max(n_max * ratio ** (i / 4), 1)) for i, label in enumerate(order.tolist())
    }
    assert class_sizes(y, indices) == expected


def test_every_class_keeps_an_image():
    y = np.repeat(np.arange(20), 10)
    assert len(np.unique(y[make_long_tailed(y, imbalance_ratio=1e-6)])) == 20


def test_the_first_class_has_the_median_size():
    y = np.repeat(["a", "b", "c"], [5, 8, 40])
    indices = make_long_tailed(y, imbalance_ratio=1, order="given")
    assert class_sizes(y, indices) == {"a": 5, "b": 8, "c": 8}


def test_given_order_is_that_of_first_appearance():
    y = np.tile(["c", "a", "b"], 100)
    indices = make_long_tailed(y, imbalance_ratio=0.01, order="given")
    assert class_sizes(y, indices) == {"c": 100, "a": 10, "b": 1}


def test_random_order_and_images_depend_on_random_state_only():
    y = np.repeat(np.arange(10), 20)
    first, again, other = (make_long_tailed(y, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert class_sizes(y, first) != class_sizes(y, other)


def test_indices_are_sorted_and_distinct():
    indices = make_long_tailed(np.tile(np.arange(4), 30), random_state=0)
    assert (np.diff(indices) > 0).all()


def test_a_single_class_keeps_n_max():
    assert len(make_long_tailed(["a"] * 9, n_max=4)) == 4


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"imbalance_ratio": 0}, r"imbalance_ratio must be in \(0, 1\], got 0"),
        ({"imbalance_ratio": 1.5}, r"imbalance_ratio must be in \(0, 1\], got 1.5"),
        ({"n_max": 0}, "n_max must be a positive integer or None, got 0"),
        ({"n_max": 2.5}, "n_max must be a positive integer or None, got 2.5"),
        ({"order": "sorted"}, "got 'sorted'"),
        ({"order": [0, 1]}, "each of the 3 labels of y once, got 2 labels, 1 of y are missing"),
        ({"order": [0, 1, 2, 2]}, "each of the 3 labels of y once"),
        ({"order": [0, None, 2]}, "got 3 labels, 1 of y are missing"),
        ({"order": ["0", "1", "2"]}, "got 3 labels, 3 of y are missing"),
        ({"y": ["a", "b", None]}, r"^y\[2\] is missing \(None\).* X and y alike"),
        ({"y": ["a", "b", np.nan]}, r"^y\[2\] is missing \(nan\)"),
        ({"y": [0, np.nan, 2]}, r"^y\[1\] is missing \(nan\)"),
        ({"y": []}, "y is empty"),
        ({"y": [[0, 1], [1, 2]]}, "should be a 1d array"),
    ],
)
def test_make_long_tailed_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_long_tailed(**{"y": [0, 1, 2, 0, 1, 2]} | kwargs)


@pytest.mark.parametrize(
    "n_classes, new_fraction, n_new",
    [(10, 0.5, 5), (19, 0.5, 9), (10, 0.99, 9), (10, 0.01, 1), (2, 0.5, 1)],
)
def test_split_parts_the_classes(n_classes, new_fraction, n_new):
    classes = np.arange(n_classes)
    base, new = base_new_split(classes, new_fraction=new_fraction, random_state=0)
    assert len(new) == n_new
    np.testing.assert_array_equal(np.union1d(base, new), classes)
    assert not np.intersect1d(base, new).size


def test_split_of_labels_is_that_of_their_classes():
    y = np.array(["dog", "cat", "cat", "cow", "dog", "okapi"])
    for part, expected in zip(
        base_new_split(y, random_state=3), base_new_split(np.unique(y), random_state=3), strict=True
    ):
        np.testing.assert_array_equal(part, expected)


def test_split_draws_other_classes_with_other_seeds():
    classes = np.arange(30)
    news = {tuple(base_new_split(classes, random_state=seed)[1]) for seed in range(5)}
    assert len(news) == 5


@pytest.mark.parametrize(
    "classes, new_fraction, message",
    [
        (["a", "a"], 0.5, "at least 2 classes, got 1"),
        (["a", "b"], 0, "new_fraction must be a number between 0 and 1, got 0"),
        (["a", "b"], 1.0, "new_fraction must be a number between 0 and 1, got 1.0"),
        (["a", None], 0.5, r"^classes_or_y\[1\] is missing \(None\).* X and y alike"),
        (["a", np.nan], 0.5, r"^classes_or_y\[1\] is missing \(nan\)"),
        ([0, np.nan], 0.5, r"^classes_or_y\[1\] is missing \(nan\)"),
    ],
)
def test_base_new_split_rejects(classes, new_fraction, message):
    with pytest.raises(ValueError, match=message):
        base_new_split(classes, new_fraction=new_fraction)


@pytest.mark.parametrize("split", [make_long_tailed, base_new_split])
def test_labels_of_several_types_are_rejected(split):
    with pytest.raises(TypeError, match=r"\[0\] is 'a' and .*\[2\] is 3; .* one type"):
        split(["a", "b", 3])


@pytest.mark.parametrize("split", [make_long_tailed, base_new_split])
def test_missing_labels_of_pandas_are_rejected(split):
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"y\[1\] is missing \(<NA>\)"):
        split(pd.Series(["a", None, "b"], dtype="string"))
