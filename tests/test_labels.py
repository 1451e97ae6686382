"""Labels that are missing, mixed, or neither strings nor numbers."""

import numpy as np
import pytest

from skcandle import CandleClassifier
from skcandle._labels import check_label_types, label_array

X, TEXTS = np.eye(4), {name: np.ones(4) for name in ("ape", "emu")}


@pytest.mark.parametrize(
    "y, error, message",
    [
        (
            ["ape", "emu", None, "emu"],
            ValueError,
            r"y\[2\] is missing \(None\).* both X and y",
        ),
        (["ape", "emu", np.nan, "emu"], ValueError, r"y\[2\] is missing \(nan\)"),
        (["ape", "emu", 3, "emu"], TypeError, r"y\[0\] is 'ape' and y\[2\] is 3. .* one type"),
        ([1, 2, "emu", 2], TypeError, r"y\[0\] is 1 and y\[2\] is 'emu'"),
        ([("a", 1), ("b", 2), ("a", 1), ("b", 2)], TypeError, r"y\[0\] is \('a', 1\). Convert"),
        ([b"ape", b"emu", b"ape", b"emu"], TypeError, r"y\[0\] is b'ape'. Decode bytes"),
    ],
)
def test_invalid_labels(y, error, message):
    labels = np.empty(4, dtype=object)
    labels[:] = y
    with pytest.raises(error, match=message):
        CandleClassifier(text_encoder=TEXTS).fit(X, labels)


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[D]"])
def test_dates_and_times_are_not_labels(dtype):
    with pytest.raises(TypeError, match=r"strings or numbers, but y has the type .* y.astype\(str"):
        CandleClassifier(text_encoder=TEXTS).fit(X, np.array([0, 1, 0, 1]).astype(dtype))


@pytest.mark.parametrize("first", [2**60 + 1, 2**63 - 3, 2**63 + 1])
def test_large_integers_keep_their_identity(first):
    labels = [first, first + 1, first + 2]
    texts = {label: np.eye(4)[i] for i, label in enumerate([*labels, 5])}
    y = np.array(labels + labels[:1], dtype=np.uint64)
    clf = CandleClassifier(text_encoder=texts, new_classes=[5], max_iter=0).fit(X[[0, 1, 2, 0]], y)
    assert clf.classes_.tolist() == [5, *labels]
    assert clf.predict(np.eye(4)).tolist() == [*labels, 5]
    assert clf.restrict(labels[:1]).classes_.tolist() == labels[:1]
    assert clf.add_images(X[:1], labels[:1]).class_count_.tolist() == [0, 3, 1, 1]
    assert clf.classes_.dtype == np.uint64


def test_integers_that_fit_no_type_are_an_error():
    texts = {-1: X[0], 2**63: X[1]}
    y = np.array([2**63] * 4, dtype=np.uint64)
    with pytest.raises(ValueError, match="can hold the labels -1 and 9223372036854775808. Use"):
        CandleClassifier(text_encoder=texts, new_classes=[-1]).fit(X, y)


@pytest.mark.parametrize(
    "y, error, message",
    [
        (["ape", np.nan, "emu", "ape"], ValueError, r"^y\[1\] is missing \(nan\)"),
        ([0, 1, 0, np.nan], ValueError, r"^y\[3\] is missing \(nan\)"),
        ([0, 1, None, 1], ValueError, r"^y\[2\] is missing \(None\)"),
        (["ape", "emu", "ape", 7], TypeError, r"y\[0\] is 'ape' and y\[3\] is 7"),
        ([True, "emu", "ape", "emu"], TypeError, r"y\[0\] is True and y\[1\] is 'emu'"),
        ([["ape"], ["emu"], [np.nan], ["ape"]], ValueError, r"^y\[2\] is missing \(nan\)"),
    ],
)
def test_labels_in_a_list_are_checked_before_numpy_makes_strings_of_them(y, error, message):
    with pytest.raises(error, match=message):
        CandleClassifier(text_encoder=TEXTS).fit(X, y)


@pytest.mark.parametrize(
    "y", [[], ["ape"], [1.5, -np.inf], np.array([], dtype=object), [[1, 2], [3, np.nan]]]
)
def test_labels_without_fault_and_what_is_no_list_of_labels_pass(y):
    check_label_types(y)


@pytest.mark.parametrize("dtype", ["object", "string", "category", "Int64"])
def test_missing_labels_of_pandas(dtype):
    pd = pytest.importorskip("pandas")
    y = [0, 1, None, 1] if dtype == "Int64" else ["ape", "emu", None, "emu"]
    with pytest.raises(ValueError, match=r"y\[2\] is missing"):
        CandleClassifier(text_encoder=TEXTS).fit(X, pd.Series(y, dtype=dtype))


@pytest.mark.parametrize("dtype", ["Int64", "Int8", "UInt8", "boolean"])
@pytest.mark.parametrize("container", ["Series", "array"])
def test_nullable_labels_of_pandas_keep_their_kind(dtype, container):
    pd = pytest.importorskip("pandas")
    y = getattr(pd, container)([False, True, False, True], dtype=dtype)
    expected = np.array([0, 1], dtype=dtype.lower().replace("boolean", "bool"))
    clf = CandleClassifier(text_encoder=None).fit(X, y)
    for labels in (clf.classes_, np.unique(clf.predict(X)), label_array(y)[:2]):
        assert labels.dtype == expected.dtype
        np.testing.assert_array_equal(labels, expected)


def test_string_labels_that_scikit_learn_does_not_support_are_an_error():
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy 1 has no StringDType")
    y = np.array(["ape", "emu"] * 2, dtype=dtypes.StringDType())
    with pytest.raises(TypeError, match=r"y has NumPy's StringDType.* Use y.astype\(object\)"):
        CandleClassifier(text_encoder=TEXTS).fit(X, y)
    assert CandleClassifier(text_encoder=TEXTS).fit(X, y.astype(object)).classes_[0] == "ape"
