"""Norms of embeddings."""

import numpy as np
import pytest

from skcandle import CandleClassifier
from skcandle.classifier._embeddings import rescale_extreme_rows, unit

ROWS = np.array([[3.0, -4.0, 0.0], [1.0, 2.0, 2.0], [0.0, 0.0, -5.0]])
DIRECTIONS = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-300, 1e-38, 1e-19, 1e19, 1e38, 1e300])
def test_extreme_rows_keep_their_direction_and_get_a_safe_norm(scale, dtype):
    rows = DIRECTIONS * np.array([[1.0], [scale], [1.0]])
    before = rows.copy()
    found = rescale_extreme_rows(rows, np.dtype(dtype))
    assert found.dtype == dtype and found.flags.c_contiguous
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(found[[0, 2]], DIRECTIONS[[0, 2]].astype(dtype))
    np.testing.assert_allclose(unit(found[1:2]), DIRECTIONS[1:2], rtol=4 * np.finfo(dtype).eps)
    assert 1 <= np.linalg.norm(found[1]) <= np.sqrt(3)


@pytest.mark.parametrize("length", [1.001e-6, 0.999e6])
def test_rows_with_safe_norms_are_not_rescaled(length):
    rows = length * DIRECTIONS
    assert rescale_extreme_rows(rows, np.dtype(float)) is rows
    columns = np.asfortranarray(rows)
    found = rescale_extreme_rows(columns, np.dtype(float))
    np.testing.assert_array_equal(found, rows)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("length", [1e-6, 1e6])
def test_the_ends_of_the_range_are_safe(length):
    rows = np.array([[0.0, length]])
    assert rescale_extreme_rows(rows, np.dtype(float)) is rows


def test_rows_with_safe_norms_are_converted_to_single_precision():
    found = rescale_extreme_rows(DIRECTIONS, np.dtype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, DIRECTIONS.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_integers_keep_their_direction(dtype):
    found = rescale_extreme_rows(np.array([[3_000_000, -4_000_000]]), np.dtype(dtype))
    np.testing.assert_allclose(unit(found), [[0.6, -0.8]], rtol=1e-6)


@pytest.mark.parametrize("length", [0.999e-6, 1.001e6])
def test_rows_with_extreme_norms_are_rescaled(length):
    found = rescale_extreme_rows(length * DIRECTIONS, np.dtype(float))
    np.testing.assert_allclose(np.abs(found).max(axis=1), 1)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, object])
def test_numbers_of_any_type_are_converted(kind):
    rows = np.abs(ROWS).astype(kind)
    found = rescale_extreme_rows(rows, np.dtype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows.astype(float))


@pytest.mark.parametrize("kind", [np.int8, np.float32])
def test_rows_of_zeros_are_errors_and_are_numbered_from_the_first_row(kind):
    rows = np.array([[1, 1], [0, 0], [1, 0], [0, 0]], dtype=kind)
    for first in (0, 100):
        with pytest.raises(ValueError, match=f"^Row {first + 1} of X is all zeros; an embedding"):
            rescale_extreme_rows(rows, np.dtype(np.float32), first)
    with pytest.raises(ValueError, match="^Row 1 of X"):
        rescale_extreme_rows(rows, np.dtype(np.float32))


def test_unit_leaves_zeros():
    np.testing.assert_array_equal(unit([[3.0, 4.0], [0.0, 0.0]]), [[0.6, 0.8], [0.0, 0.0]])


TEXTS = dict(zip(["ant", "bee", "elk"], np.eye(3), strict=True))
Y = np.repeat(["ant", "bee"], 4)
X = np.stack([TEXTS[name] for name in Y]) + np.random.default_rng(0).normal(size=(8, 3)) / 9


def column_of_lists(kind):
    """The rows of `X` as a column of a table."""
    if kind == "objects":
        column = np.empty(len(X), dtype=object)
        column[:] = X.tolist()
        return column
    if kind == "pandas":
        return pytest.importorskip("pandas").Series(X.tolist())
    if kind.startswith("polars"):
        pl = pytest.importorskip("polars")
        width = () if kind == "polars" else (X.shape[1],)
        return pl.Series(X.tolist(), dtype=(pl.Array if width else pl.List)(pl.Float64, *width))
    pa = pytest.importorskip("pyarrow")
    column = pa.chunked_array([pa.array(X.tolist())])
    if kind == "pyarrow":
        return column
    pd = pytest.importorskip("pandas")
    return pd.Series(pd.arrays.ArrowExtensionArray(column))


@pytest.mark.parametrize(
    "kind", ["objects", "pandas", "polars", "polars array", "pyarrow", "pandas of pyarrow"]
)
def test_a_column_of_lists_is_the_same_as_its_rows(kind):
    column, clf = column_of_lists(kind), CandleClassifier(new_classes=["elk"], text_encoder=TEXTS)
    expected = clf.fit(X, Y).predict_proba(X)
    fitted = clf.fit(column, Y)
    np.testing.assert_array_equal(fitted.predict_proba(column), expected)
    np.testing.assert_array_equal(fitted.predict(column), fitted.predict(X))


@pytest.mark.parametrize(
    "row, found", [(None, "got None"), ([1.0, 2.0], "got a list of 2"), ("x", "got 'x'")]
)
def test_a_row_that_is_not_such_a_list_is_named(row, found):
    column = column_of_lists("objects")
    column[2] = row
    with pytest.raises(ValueError, match=rf"^X\[2\] must be a list of 3 numbers, {found}\.$"):
        CandleClassifier(text_encoder=TEXTS).fit(column, Y)
