"""Counts, means and scatter of images, which add up."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skcandle.classifier._statistics import ClassStatistics
from skcandle.classifier._training_set import TrainingSet


@pytest.fixture
def images():
    """Weighted images of classes 0 to 3 out of five."""
    rng = np.random.default_rng(1)
    rows, y, weight = rng.normal(size=(40, 5)), rng.integers(0, 4, 40), rng.random(40)
    y[20:][y[20:] == 3] = 2  # one class in the first part only
    y[:20][y[:20] == 0] = 1  # and one in the second
    weight[y == 2] /= 20  # and one with a weight below one image
    return rows, y, weight


def statistics(images, part=slice(None), dtype=float):
    rows, y, weight = (array[part] for array in images)
    return ClassStatistics.of(TrainingSet(rows.astype(dtype), y, weight.astype(dtype), None, 5))


def assert_of(found, images):
    rows, y, weight = images
    for k in range(5):
        own = y == k
        assert_allclose(found.counts[k], weight[own].sum())
        mean = np.average(rows[own], axis=0, weights=weight[own]) if own.any() else np.zeros(5)
        assert_allclose(found.means[k], mean)
    residuals = rows - found.means[y]
    assert_allclose(found.scatter, (residuals * weight[:, None]).T @ residuals)


def test_statistics_are_weighted_counts_means_and_scatter(images):
    assert_of(statistics(images), images)


def test_merged_statistics_are_those_of_all_images(images):
    merged = statistics(images, slice(20)).merged(statistics(images, slice(20, None)))
    assert_of(merged, images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_further_classes_have_no_image(images, dtype):
    plain = statistics(images, dtype=dtype)
    grown = plain.with_classes(2)
    assert_array_equal(grown.counts, [*plain.counts, 0, 0])
    assert_array_equal(grown.means, [*plain.means, np.zeros(5), np.zeros(5)])
    assert_array_equal(grown.scatter, plain.scatter)
    both = plain.merged(plain)
    for array in (grown.counts, grown.means, both.counts, both.means, both.scatter):
        assert array.dtype == dtype


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_what_is_left_without_some_images(images, dtype, rtol):
    images = tuple(array[:30] for array in images)
    everything = statistics(images, dtype=dtype)
    found = everything.without(statistics(images, slice(0, 20), dtype))
    expected = statistics(images, slice(20, None), dtype)
    assert_allclose(found.counts, expected.counts, rtol)
    assert_allclose(found.means, expected.means, rtol, rtol)
    assert_allclose(found.scatter, expected.scatter, atol=rtol * np.trace(everything.scatter))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nothing_is_left_without_all_images_and_no_scatter_of_single_ones(images, dtype):
    everything = statistics(images, dtype=dtype)
    empty = everything.without(everything)
    assert not empty.counts.any() and not empty.means.any() and not empty.scatter.any()
    rows, y, weight = images
    _, first = np.unique(y, return_index=True)
    rest = np.setdiff1d(np.arange(len(y)), first)
    assert not everything.without(statistics(images, rest, dtype)).scatter.any()
