import numpy as np
import pytest

from skcandle.datasets import TEMPLATES, make_long_tailed


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


def test_natural_order_is_from_the_largest_class():
    y = np.repeat(["a", "b", "c", "d"], [30, 100, 30, 90])
    indices = make_long_tailed(y, imbalance_ratio=0.001, order="natural", n_max=1000)
    # 1000, 100, 10 and 1 images: more than b and d have
    assert class_sizes(y, indices) == {"b": 100, "d": 90, "a": 10, "c": 1}


def test_the_first_class_may_keep_all_images_of_the_largest():
    y = np.repeat(["a", "b", "c"], [5, 8, 40])
    indices = make_long_tailed(y, imbalance_ratio=0.1, order="natural", n_max="max")
    assert class_sizes(y, indices) == {"c": 40, "b": 8, "a": 4}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_have_one_place_for_the_name(name):
    assert TEMPLATES[name].count("{}") == 1


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
        ({"n_max": 0}, 'n_max must be a positive integer, "max" or None, got 0'),
        ({"n_max": 2.5}, 'n_max must be a positive integer, "max" or None, got 2.5'),
        ({"n_max": "min"}, "n_max must be a positive integer, \"max\" or None, got 'min'"),
        ({"order": "sorted"}, "got 'sorted'"),
        (
            {"order": [0, 1]},
            "exactly once; it has 2 entries and lacks 1 of",
        ),
        ({"order": [0, 1, 2, 2]}, "each of the 3 labels of y exactly once"),
        ({"order": [0, None, 2]}, "has 3 entries and lacks 1 of the labels"),
        ({"order": ["0", "1", "2"]}, "has 3 entries and lacks 3 of the labels"),
        ({"y": ["a", "b", None]}, r"^y\[2\] is missing \(None\).* from both X and y"),
        ({"y": ["a", "b", np.nan]}, r"^y\[2\] is missing \(nan\)"),
        ({"y": [0, np.nan, 2]}, r"^y\[1\] is missing \(nan\)"),
        ({"y": []}, "y must not be empty"),
        ({"y": [[0, 1], [1, 2]]}, "should be a 1d array"),
    ],
)
def test_make_long_tailed_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_long_tailed(**{"y": [0, 1, 2, 0, 1, 2]} | kwargs)


def test_labels_of_several_types_are_rejected():
    with pytest.raises(TypeError, match=r"\[0\] is 'a' and .*\[2\] is 3. .* one type"):
        make_long_tailed(["a", "b", 3])


def test_missing_labels_of_pandas_are_rejected():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"y\[1\] is missing \(<NA>\)"):
        make_long_tailed(pd.Series(["a", None, "b"], dtype="string"))
