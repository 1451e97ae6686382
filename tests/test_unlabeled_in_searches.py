"""Cross-validation with images without labels, as an example of the gallery shows it."""

import ast
from pathlib import Path

import numpy as np
import pytest
from long_tail import BASE, DATA, FIXED, make
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict

EXAMPLE = Path(__file__).parents[1] / "examples/training_data/plot_unlabeled_search.py"
UNLABELLED, PROBE = DATA.X_test[::2], DATA.X_test[1::2]
Y = np.searchsorted(BASE, DATA.y)  # numbers, as cross_val_predict makes them
FOLDS = KFold(3, shuffle=True, random_state=0)
SPLITS = list(FOLDS.split(DATA.X))


@pytest.fixture(scope="module")
def with_unlabeled():
    """The class of the example."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {
        "BaseEstimator": BaseEstimator,
        "ClassifierMixin": ClassifierMixin,
        "MetaEstimatorMixin": MetaEstimatorMixin,
        "clone": clone,
        "__name__": __name__,
    }
    exec(compile(ast.Module([definition], []), str(EXAMPLE), "exec"), names)
    return names[definition.name]


@pytest.fixture(scope="module")
def candle():
    # class_names lists all classes, because a fold may hide all images of one
    texts = {k: DATA.texts[name] for k, name in enumerate(BASE)}
    return make(**FIXED, new_classes=None, class_names=BASE, text_encoder=texts)


def out_of_fold(estimator, X, y):
    """Probabilities of each image, from a fit without its fold."""
    return cross_val_predict(estimator, X, y, cv=FOLDS, method="predict_proba")


@pytest.mark.parametrize("fold", range(3))
def test_labels_of_a_test_fold_have_no_influence_on_its_answers(with_unlabeled, candle, fold):
    estimator, (train, test) = with_unlabeled(candle, UNLABELLED), SPLITS[fold]
    y = Y.copy()
    y[test] = np.roll(y[test], 5)
    assert (y != Y).any()
    before, after = out_of_fold(estimator, DATA.X, Y), out_of_fold(estimator, DATA.X, y)
    assert_array_equal(after[test], before[test])
    assert (after[train] != before[train]).any()  # of other folds, which were fitted on them


@pytest.mark.parametrize("added", [False, True])
def test_images_of_a_test_fold_have_an_influence_only_if_they_are_added(
    with_unlabeled, candle, added
):
    train, test = SPLITS[0]
    other = DATA.X.copy()
    other[test] = PROBE[: len(test)]
    probas = []
    for X in (DATA.X, other):
        unlabelled = np.concatenate([UNLABELLED, X[test]]) if added else UNLABELLED
        fitted = with_unlabeled(candle, unlabelled).fit(X[train], Y[train])
        probas.append(fitted.predict_proba(PROBE))
    assert (probas[0] != probas[1]).any() == added


def test_all_folds_learn_from_the_same_unlabelled_images(with_unlabeled, candle):
    estimator = with_unlabeled(candle, UNLABELLED)
    proba = out_of_fold(estimator, DATA.X, Y)
    for train, test in SPLITS:
        fitted = clone(candle).fit(DATA.X[train], Y[train]).add_unlabeled(UNLABELLED)
        assert_array_equal(proba[test], fitted.predict_proba(DATA.X[test]))
        plain = clone(candle).fit(DATA.X[train], Y[train])
        assert (proba[test] != plain.predict_proba(DATA.X[test])).any()


def test_a_search_chooses_whether_unlabelled_images_help(with_unlabeled, candle):
    grid = {"unlabeled": [UNLABELLED[:0], UNLABELLED], "estimator__shrinkage": [1.0, 4.0]}
    search = GridSearchCV(with_unlabeled(candle, UNLABELLED), grid, cv=FOLDS).fit(DATA.X, Y)
    n_images = [len(params["unlabeled"]) for params in search.cv_results_["params"]]
    assert sorted(n_images) == [0, 0, len(UNLABELLED), len(UNLABELLED)]
    assert len(search.predict(PROBE)) == len(PROBE)
    plain = GridSearchCV(candle, {"shrinkage": [1.0, 4.0]}, cv=FOLDS).fit(DATA.X, Y)
    scores = search.cv_results_["mean_test_score"][np.array(n_images) == 0]
    assert_array_equal(scores, plain.cv_results_["mean_test_score"])
