import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    check_cv,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skcandle import CandleClassifier
from skcandle.model_selection import NewClassSplit, base_new_split, cross_val_predict_proba

LONG_TAIL = np.repeat(np.arange(10), [40, 25, 16, 10, 6, 4, 3, 2, 1, 1])


def folds(cv, y):
    """Labels of the training side and of the test side of each fold, and the indices."""
    for train, test in cv.split(np.zeros(len(y)), y):
        yield np.asarray(y)[train], np.asarray(y)[test], train, test


@pytest.mark.parametrize("y", [LONG_TAIL, LONG_TAIL.astype(str), LONG_TAIL.tolist()])
def test_each_image_is_on_exactly_one_side(y):
    for _, _, train, test in folds(NewClassSplit(random_state=0), y):
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()


@pytest.mark.parametrize("new_fraction, n_hidden", [(0.5, 5), (0.2, 2), (0.01, 1), (0.99, 8)])
def test_number_of_hidden_classes(new_fraction, n_hidden):
    for train, _, _, _ in folds(NewClassSplit(new_fraction=new_fraction), LONG_TAIL):
        assert 10 - len(np.unique(train)) == n_hidden


def test_all_images_of_hidden_classes_are_tested():
    for train, test, _, _ in folds(NewClassSplit(random_state=1), LONG_TAIL):
        for label in np.setdiff1d(LONG_TAIL, train):
            assert (test == label).sum() == (LONG_TAIL == label).sum()


@pytest.mark.parametrize("test_size", [0.25, 0.5, 0.99])
def test_seen_classes_give_a_share_of_their_images_and_keep_one(test_size):
    for train, test, _, _ in folds(NewClassSplit(test_size=test_size), LONG_TAIL):
        for label in np.unique(train):
            n = (LONG_TAIL == label).sum()
            expected = min(max(int(test_size * n), 1), n - 1)
            assert (test == label).sum() == expected
            assert (train == label).sum() == n - expected


def test_a_single_image_is_in_training_or_its_class_is_hidden():
    for train, test, _, _ in folds(NewClassSplit(n_splits=20), LONG_TAIL):
        for label in (8, 9):
            assert (label in train) != (label in test)


@pytest.mark.parametrize("n_splits", [2, 3, 5, 8])
@pytest.mark.parametrize("new_fraction", [0.3, 0.5, 0.7])
def test_classes_are_hidden_equally_often(n_splits, new_fraction):
    y = np.repeat(np.arange(11), 3)
    cv = NewClassSplit(n_splits, new_fraction=new_fraction, random_state=0)
    times = np.sum([~np.isin(np.arange(11), train) for train, _, _, _ in folds(cv, y)], axis=0)
    assert np.ptp(times) <= 1


def test_hidden_sets_are_not_repeated_in_cycles():
    y = np.repeat(np.arange(12), 2)
    hidden = {
        tuple(np.setdiff1d(y, train)) for train, *_ in folds(NewClassSplit(6, random_state=0), y)
    }
    assert len(hidden) == 6


def test_some_seen_class_is_always_tested():
    y = np.array([0, 0, 0, 1, 2, 3, 4, 5])
    for train, test, _, _ in folds(NewClassSplit(10, new_fraction=0.8, random_state=0), y):
        assert np.isin(test, train).any()


def test_folds_depend_on_random_state_only():
    def tested(cv):
        return [test.tolist() for *_, test in folds(cv, LONG_TAIL)]

    cv = NewClassSplit(random_state=0)
    assert tested(cv) == tested(cv) == tested(NewClassSplit(random_state=0))
    assert tested(cv) != tested(NewClassSplit(random_state=1))


def test_more_folds_leave_the_earlier_ones_as_they_are():
    few, many = (list(folds(NewClassSplit(n, random_state=0), LONG_TAIL)) for n in (2, 6))
    for a, b in zip(few, many[:2], strict=True):
        np.testing.assert_array_equal(a[3], b[3])


def test_is_a_scikit_learn_splitter():
    cv = NewClassSplit(3, new_fraction=0.4)
    assert check_cv(cv, LONG_TAIL, classifier=True) is cv
    assert cv.get_n_splits(LONG_TAIL, LONG_TAIL) == 3
    assert "groups" not in cv.get_metadata_routing()._serialize().get("split", {})
    assert repr(cv) == (
        "NewClassSplit(n_splits=3, new_fraction=0.4, random_state=None, test_size=0.25)"
    )


def test_hidden_classes_count_as_errors_of_an_ordinary_classifier():
    X = np.repeat(np.eye(10), 4, axis=0)
    y = np.repeat(np.arange(10), 4)
    scores = cross_val_score(KNeighborsClassifier(1), X, y, cv=NewClassSplit(4, random_state=0))
    # a fold tests all 5 * 4 hidden images, all wrong, and 5 * 1 seen ones, all right
    np.testing.assert_allclose(scores, 5 / 25)


def test_works_in_searches_with_groups_ignored():
    X, y = np.zeros((len(LONG_TAIL), 1)), LONG_TAIL.astype(str)
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior", "uniform"]}, cv=NewClassSplit())
    assert np.isfinite(search.fit(X, y).best_score_)
    result = cross_validate(DummyClassifier(), X, y, groups=y, cv=NewClassSplit(3))
    assert len(result["test_score"]) == 3


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"n_splits": 0}, "n_splits must be a positive integer, got 0"),
        ({"n_splits": 2.0}, "n_splits must be a positive integer, got 2.0"),
        ({"new_fraction": 0}, "new_fraction must be a number between 0 and 1, got 0"),
        ({"new_fraction": 1.0}, "new_fraction must be a number between 0 and 1, got 1.0"),
        ({"test_size": 3}, "test_size must be a number between 0 and 1, got 3"),
    ],
)
def test_parameters_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NewClassSplit(**kwargs)


@pytest.mark.parametrize(
    "y, error, message",
    [
        (["a", "b", None, "b"], ValueError, r"^y\[2\] is missing \(None\).* from both X and y"),
        (["a", "b", np.nan, "b"], ValueError, r"^y\[2\] is missing \(nan\)"),
        ([0, 1, np.nan, 1], ValueError, r"^y\[2\] is missing \(nan\)"),
        (["a", "b", 3, "b"], TypeError, r"y\[0\] is 'a' and y\[2\] is 3. .* one type"),
    ],
)
def test_missing_labels_are_named(y, error, message):
    with pytest.raises(error, match=message):
        next(NewClassSplit().split(np.zeros((4, 1)), y))


@pytest.mark.parametrize(
    "y, message",
    [
        ([0, 0, 1, 1], "at least 3 classes, got 2"),
        ([0, 1, 2, 3], "every class of y has a single image"),
        ([0.5, 1.5, 2.5, 2.5], "got a continuous target"),
        ([[0, 1], [1, 1], [1, 0]], "should be a 1d array"),
        (None, "needs labels; pass y"),
    ],
)
def test_degenerate_labels_are_rejected(y, message):
    with pytest.raises(ValueError, match=message):
        next(NewClassSplit().split(np.zeros((4 if y is None else len(y), 1)), y))


# --- one split -------------------------------------------------------------------------------


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


@pytest.mark.parametrize("n_classes, n_base", [(2, 1), (5, 3), (10, 5)])
def test_sorted_split_starts_with_the_base_classes(n_classes, n_base):
    classes = np.array([f"class {i}" for i in range(n_classes)])
    shuffled = np.random.default_rng(0).permutation(np.repeat(classes, 3))
    base, new = base_new_split(shuffled, order="sorted")
    np.testing.assert_array_equal(base, classes[:n_base])
    np.testing.assert_array_equal(new, classes[n_base:])


def test_order_of_the_split_is_checked():
    with pytest.raises(ValueError, match='order must be "random" or "sorted", got \'given\''):
        base_new_split(["a", "b"], order="given")


@pytest.mark.parametrize(
    "classes, new_fraction, message",
    [
        (["a", "a"], 0.5, "at least 2 classes, got 1"),
        (["a", "b"], 0, "new_fraction must be a number between 0 and 1, got 0"),
        (["a", "b"], 1.0, "new_fraction must be a number between 0 and 1, got 1.0"),
        (["a", None], 0.5, r"^classes_or_y\[1\] is missing \(None\).* from both X and y"),
        (["a", np.nan], 0.5, r"^classes_or_y\[1\] is missing \(nan\)"),
        ([0, np.nan], 0.5, r"^classes_or_y\[1\] is missing \(nan\)"),
    ],
)
def test_base_new_split_rejects(classes, new_fraction, message):
    with pytest.raises(ValueError, match=message):
        base_new_split(classes, new_fraction=new_fraction)


@pytest.mark.parametrize("fraction", [0.29, 0.5, 0.55, 0.7])
@pytest.mark.parametrize("n_classes", [5, 7, 10, 100])
def test_one_rule_for_the_number_of_new_classes(n_classes, fraction):
    y = np.repeat(np.arange(n_classes), 2)
    n_new = len(base_new_split(y, new_fraction=fraction, random_state=0)[1])
    train, _ = next(NewClassSplit(1, new_fraction=fraction, random_state=0).split(y, y))
    assert n_new == n_classes - len(np.unique(y[train])) == int(fraction * n_classes + 1e-9)


def test_labels_of_several_types_are_rejected():
    with pytest.raises(TypeError, match=r"\[0\] is 'a' and .*\[2\] is 3. .* one type"):
        base_new_split(["a", "b", 3])


# --- out-of-fold probabilities ---------------------------------------------------------------

TEXTS = dict(zip(["ant", "bee", "elk", "fox"], np.eye(4), strict=True))
NAMES = np.repeat(["ant", "bee", "fox"], [6, 5, 1])
ROWS = np.stack([TEXTS[name] for name in NAMES])
ROWS = ROWS + np.random.default_rng(0).normal(size=ROWS.shape) / 5
HALVES = [(np.arange(0, 12, 2), np.arange(1, 12, 2)), (np.arange(1, 12, 2), np.arange(0, 12, 2))]
FOX = len(NAMES) - 1  # the only image of its class


def candle(**options):
    return CandleClassifier(text_encoder=TEXTS, max_iter=0, **options)


@pytest.mark.parametrize("wrap", [lambda clf: clf, lambda clf: make_pipeline(Normalizer(), clf)])
def test_each_fold_has_the_same_classes_as_if_class_names_listed_them(wrap):
    proba, classes = cross_val_predict_proba(
        wrap(candle(new_classes=["elk"])), ROWS, NAMES, cv=HALVES
    )
    assert classes.tolist() == sorted(TEXTS)
    listed = wrap(candle(class_names=sorted(TEXTS)))
    for train, test in HALVES:
        expected = listed.fit(ROWS[train], NAMES[train]).predict_proba(ROWS[test])
        np.testing.assert_allclose(proba[test], expected)


def test_a_class_whose_only_image_is_tested_is_predicted_by_its_name():
    proba, classes = cross_val_predict_proba(candle(), ROWS, NAMES, cv=HALVES)
    assert classes[proba[FOX].argmax()] == "fox"


def test_the_estimator_is_left_as_it_was():
    clf = candle(new_classes=["elk"])
    cross_val_predict_proba(clf, ROWS, NAMES, cv=HALVES)
    assert clf.new_classes == ["elk"]
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize(
    "clf", [CandleClassifier(text_encoder=None), KNeighborsClassifier(1)], ids=["candle", "other"]
)
def test_a_class_that_a_fold_cannot_know_has_probability_zero_and_a_warning(clf):
    with pytest.warns(UserWarning, match="the class 'fox' does not know it, so its probability"):
        proba, classes = cross_val_predict_proba(clf, ROWS, NAMES, cv=HALVES)
    assert classes.tolist() == ["ant", "bee", "fox"]
    assert proba[FOX].tolist()[2] == 0
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_lists_of_samples_and_unused_categories_are_accepted():
    pd = pytest.importorskip("pandas")
    y = pd.Series(pd.Categorical(NAMES, categories=sorted(TEXTS)))
    a, classes = cross_val_predict_proba(candle(), ROWS.tolist(), y, cv=HALVES)
    b, _ = cross_val_predict_proba(candle(new_classes=["elk"]), ROWS, NAMES, cv=HALVES)
    assert classes.tolist() == sorted(TEXTS)
    np.testing.assert_array_equal(a, b)


def test_groups_stay_together():
    groups = np.arange(12) % 2
    a, _ = cross_val_predict_proba(candle(), ROWS, NAMES, groups=groups, cv=GroupKFold(2))
    b, _ = cross_val_predict_proba(candle(), ROWS, NAMES, cv=HALVES)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "cv, message",
    [
        (HALVES[:1], "sample 0 is in 0"),
        ([*HALVES, HALVES[0]], "sample 1 is in 2"),
        (NewClassSplit(2, random_state=0), "use cross_validate with the scorers"),
    ],
)
def test_each_sample_must_be_in_one_test_set(cv, message):
    with pytest.raises(ValueError, match=message):
        cross_val_predict_proba(candle(), ROWS, NAMES, cv=cv)
