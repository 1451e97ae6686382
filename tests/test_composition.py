"""The tables in doc/composition.rst, row by row."""

import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import clip_like
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer, top_k_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import LabelEncoder

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.datasets import load_emoji
from skcandle.metrics import harmonic_mean_scorer, joint_accuracy_scorer, joint_log_loss_scorer
from skcandle.model_selection import NewClassSplit, cross_val_predict_proba

DOCUMENT = Path(__file__).parents[1] / "doc" / "composition.rst"
NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
N_SEEN = 6
FEATURES, TARGET, TEXTS = clip_like([12] * len(NAMES), 16, noise=0.8)
IS_SEEN = TARGET < N_SEEN
X, X_ALL = FEATURES[IS_SEEN], FEATURES


def encode(prompts):
    """Text encoder: the text feature of the name at the end of a prompt."""
    return np.stack([TEXTS[NAMES.index(p.removesuffix(".").split()[-1])] for p in prompts])


make = partial(CandleClassifier, text_encoder=encode, max_iter=5)
make_published = partial(PublishedCandleClassifier, text_encoder=encode, max_iter=2, random_state=0)
STRINGS = np.array(NAMES)[TARGET]
# column of the table: parameters, and labels of all images
COLUMNS = {
    "strings": ({}, STRINGS),
    "integers": ({"class_names": NAMES[:N_SEEN]}, TARGET),
    "class_names": ({"class_names": NAMES}, STRINGS),
    "new_classes": ({"new_classes": NAMES[N_SEEN:]}, STRINGS),
}
UNIVERSES = {name: (make(**options), y) for name, (options, y) in COLUMNS.items()}
GRID = [{"temperature": [0.01, 0.05]}, {"margin": [0.0]}]


def meta(wrap):
    """Fit a meta-estimator; return its accuracy on the classes with images."""

    def run(clf, y):
        return np.mean(wrap(clf).fit(X, y).predict(X) == y)

    return run


def other(clf):
    return LogisticRegression()


def out_of_fold(clf, y):
    return np.mean(cross_val_predict(clf, X, y, cv=2) == y)


def out_of_fold_proba(clf, y):
    proba = cross_val_predict(clf, X, y, cv=2, method="predict_proba")
    return np.mean(np.unique(y)[proba.argmax(axis=1)] == y)


def out_of_fold_proba_of_all_classes(clf, y):
    proba, classes = cross_val_predict_proba(clf, X, y, cv=2)
    return np.mean(classes[proba.argmax(axis=1)] == y)


def calibrated_view(clf, y):
    view = clf.fit(X, y).restrict(np.unique(y))
    calibrated = CalibratedClassifierCV(FrozenEstimator(view)).fit(X, y)
    return np.mean(calibrated.predict(X) == y)


def scored(scoring):
    def run(clf, y):
        return cross_val_score(clf, X, y, cv=2, scoring=scoring, error_score="raise").mean()

    return run


def scored_with_labels(function, response_method, sign):
    def run(clf, y):
        labels = clf.fit(X, y).classes_
        scorer = make_scorer(
            function, response_method=response_method, labels=labels, greater_is_better=sign > 0
        )
        return scored(scorer)(clf, y)

    return run


def searches(grid):
    """The rows of the table that search a grid."""
    return {
        "GridSearchCV": (meta(lambda c: GridSearchCV(c, grid, cv=2, error_score="raise")), 0.6),
        "RandomizedSearchCV": (
            meta(lambda c: RandomizedSearchCV(c, grid, n_iter=2, cv=2, random_state=0)),
            0.6,
        ),
    }


# row of the table: what runs, and the value that its result must exceed
TOOLS = searches(GRID) | {
    "cross_val_predict": (out_of_fold, 0.6),
    'cross_val_predict(method="predict_proba")': (out_of_fold_proba, 0.6),
    "cross_val_predict_proba": (out_of_fold_proba_of_all_classes, 0.6),
    "AdaBoostClassifier": (meta(lambda c: AdaBoostClassifier(c, n_estimators=2)), 0.6),
    "BaggingClassifier": (meta(lambda c: BaggingClassifier(c, 3, random_state=0)), 0.6),
    "CalibratedClassifierCV": (meta(lambda c: CalibratedClassifierCV(c, cv=2)), 0.6),
    "CalibratedClassifierCV(FrozenEstimator(clf.restrict(...)))": (calibrated_view, 0.6),
    "StackingClassifier": (
        meta(lambda c: StackingClassifier([("a", c), ("b", LogisticRegression())], cv=2)),
        0.6,
    ),
    'VotingClassifier(voting="soft")': (
        meta(lambda c: VotingClassifier([("a", c), ("b", LogisticRegression())], voting="soft")),
        0.6,
    ),
    'scoring="accuracy"': (scored("accuracy"), 0.6),
    'scoring="balanced_accuracy"': (scored("balanced_accuracy"), 0.6),
    'scoring="neg_log_loss"': (scored("neg_log_loss"), -np.log(8)),
    'scoring="roc_auc_ovr"': (scored("roc_auc_ovr"), 0.8),
    'scoring="top_k_accuracy"': (scored("top_k_accuracy"), 0.6),
    "scoring=joint_accuracy_scorer": (scored(joint_accuracy_scorer), 0.6),
    "scoring=joint_log_loss_scorer": (scored(joint_log_loss_scorer), -np.log(8)),
    "make_scorer(log_loss, labels=...)": (
        scored_with_labels(log_loss, "predict_proba", -1),
        -np.log(8),
    ),
    "make_scorer(top_k_accuracy_score, labels=...)": (
        scored_with_labels(top_k_accuracy_score, "predict_proba", 1),
        0.6,
    ),
}


def table(header):
    """Rows of the reST table in the document whose first column is called `header`."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    end = next(i for i in range(start + 2, len(lines)) if lines[i].startswith("==="))
    head, *rows = (re.split(r"\s{2,}", lines[i].strip()) for i in [start, *range(start + 2, end)])
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


FACTS, MARKS, METHODS = table("Tool"), table("Mark"), table("Method")


def test_the_document_lists_what_is_tested():
    assert list(FACTS) == list(TOOLS)
    for row in FACTS.values():
        assert list(row) == list(UNIVERSES)
    marks = {fact for row in FACTS.values() for fact in row.values()}
    assert marks == {"yes", *MARKS}


@pytest.mark.parametrize("classifier", [make, make_published], ids=["candle", "published"])
@pytest.mark.parametrize("universe", COLUMNS)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:Number of classes in training fold:RuntimeWarning")
def test_the_document_is_right(tool, universe, classifier):
    run, least = TOOLS[tool]
    options, y = COLUMNS[universe]
    clf = classifier(**options)
    fact = FACTS[tool][universe]
    if fact == "yes":
        assert run(clf, y[IS_SEEN]) > least
        return
    with pytest.raises(Exception) as caught:  # noqa: B017 - the next lines say which one
        run(clf, y[IS_SEEN])
    assert caught.type.__name__ == MARKS[fact]["Raised"]
    assert MARKS[fact]["Message contains"].lower() in str(caught.value).lower()


ENCODERS = {
    "cross_val_predict": lambda c, y: cross_val_predict(c, X, y, cv=2, method="predict_proba"),
    "bagging": lambda c, y: BaggingClassifier(c, 3, random_state=0).fit(X, y),
    "stacking": lambda c, y: StackingClassifier([("a", c)], cv=2).fit(X, y),
    "voting": lambda c, y: VotingClassifier([("a", c)]).fit(X, y),
}


def vectors_by(labels):
    """Vectors of classes, for a text encoder that is a mapping."""
    return {label: TEXTS[NAMES.index(name)] for label, name in labels}


@pytest.mark.parametrize("tool", ENCODERS)
def test_the_remedy_for_encoded_labels_of_a_mapping_to_vectors_works(tool):
    y = STRINGS[IS_SEEN]
    clf = make(text_encoder=vectors_by(zip(NAMES, NAMES, strict=True)))
    with pytest.raises(
        ValueError, match=r"text_encoder={i: .* in enumerate\(sorted\(set\(y\)\)\)}"
    ):
        ENCODERS[tool](clf, y)
    ENCODERS[tool](make(text_encoder=vectors_by(enumerate(sorted(set(y))))), y)


def test_the_error_for_new_classes_and_encoded_labels_names_what_works():
    clf, y = UNIVERSES["new_classes"]
    with pytest.raises(TypeError, match=r"leave out new_classes.*cross_val_predict_proba\.$"):
        cross_val_predict(clf, X, y[IS_SEEN], cv=2, method="predict_proba")


@pytest.mark.parametrize("tool", ENCODERS)
def test_the_remedy_in_the_message_for_encoded_labels_works(tool):
    y = STRINGS[IS_SEEN]
    with pytest.raises(ValueError, match=r"strings, .* replaced .* class_names=sorted\(set\(y\)\)"):
        ENCODERS[tool](make(), y)
    result = ENCODERS[tool](make(class_names=sorted(set(y))), y)
    if tool != "cross_val_predict":
        assert np.mean(result.predict(X) == y) > 0.6


def test_a_mapping_of_names_is_not_mistaken_for_encoded_labels():
    voting = VotingClassifier([("a", make(class_names=dict(zip(NAMES, NAMES, strict=True))))])
    with pytest.raises(TypeError, match="has the label 'ant', but the labels in y are numbers"):
        voting.fit(X, STRINGS[IS_SEEN])


@pytest.mark.parametrize("universe", ["class_names", "new_classes"])
def test_a_search_predicts_new_classes(universe):
    clf, y = UNIVERSES[universe]
    # a margin below 1 would be chosen here, as only classes with images are scored
    search = GridSearchCV(clf, {"temperature": [0.01, 0.05]}, cv=2).fit(X, y[IS_SEEN])
    assert search.classes_.tolist() == NAMES
    assert np.mean(search.predict(X_ALL[~IS_SEEN]) == y[~IS_SEEN]) > 0.6
    assert search.predict_proba(X_ALL).shape == (len(X_ALL), len(NAMES))


@pytest.mark.parametrize("y", [STRINGS, TARGET], ids=["strings", "integers"])
def test_hidden_classes_of_a_fold_are_its_new_classes(y):
    cv = NewClassSplit(n_splits=2, random_state=0)
    clf = make(class_names=NAMES)
    scores = cross_val_score(clf, X_ALL, y, cv=cv, scoring=harmonic_mean_scorer)
    assert scores.min() > 0.5
    search = GridSearchCV(clf, GRID, cv=cv, scoring=harmonic_mean_scorer, error_score="raise")
    assert search.fit(X_ALL, y).best_score_ > 0.5


def test_temperature_and_margin_matter_in_a_search():
    grid = {"temperature": [0.01, 0.2], "margin": [0.0, 3.0]}
    tail = np.concatenate([np.flatnonzero(TARGET == k)[: 12 - 2 * k] for k in range(N_SEEN)])
    search = GridSearchCV(make(), grid, cv=2, scoring="neg_log_loss", error_score="raise")
    search.fit(X_ALL[tail], STRINGS[tail])
    assert len(np.unique(search.cv_results_["mean_test_score"])) == 4


def test_encoded_labels_with_names_give_the_same_as_string_labels():
    encoder = LabelEncoder().fit(STRINGS)
    by_name = make().fit(X, STRINGS[IS_SEEN]).predict_proba(X_ALL)
    clf = make(class_names=encoder.classes_[:N_SEEN].tolist())
    by_index = clf.fit(X, encoder.transform(STRINGS[IS_SEEN])).predict_proba(X_ALL)
    np.testing.assert_allclose(by_index, by_name)


def test_out_of_fold_probabilities_are_those_of_the_folds():
    clf, y = UNIVERSES["integers"]
    halves = np.arange(len(X)) % 2 == 0
    folds = [(np.flatnonzero(halves), np.flatnonzero(~halves))]
    folds.append(folds[0][::-1])
    result = cross_val_predict(clf, X, y[IS_SEEN], cv=folds, method="predict_proba")
    for train, test in folds:
        expected = clf.fit(X[train], y[IS_SEEN][train]).predict_proba(X[test])
        np.testing.assert_allclose(result[test], expected)


def test_a_search_in_threads_gives_the_same_scores():
    clf, y = UNIVERSES["strings"]
    search = GridSearchCV(clf, {"margin": [0.0, 1.0, 2.0]}, cv=2, n_jobs=2)
    with parallel_config(backend="threading"):
        threads = search.fit(X, y[IS_SEEN]).cv_results_["mean_test_score"]
    alone = search.set_params(n_jobs=None).fit(X, y[IS_SEEN]).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(threads, alone)


@pytest.mark.slow
def test_featurizer_settings_in_a_search():
    emoji = load_emoji(styles=["twemoji", "fluent-emoji-flat"])
    names = emoji.target_names[::30]
    chosen = np.flatnonzero(np.isin(emoji.target, names))
    images, y = [emoji.images[i] for i in chosen], emoji.target[chosen]
    clip = CLIPFeaturizer("emoji-clip", pretrained=None)
    pipe = Pipeline([("clip", clip), ("candle", make(text_encoder=clip))])
    grid = {
        "clip__precision": ["auto", "fp32"],
        "candle__temperature": [0.01, 0.02],
    }
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(images, y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 2 / len(names)


@pytest.mark.slow
def test_ensembles_of_pipelines_from_paths(tmp_path):
    emoji = load_emoji(styles=["twemoji", "fluent-emoji-flat"])
    names = emoji.target_names[::30].tolist()
    chosen = np.flatnonzero(np.isin(emoji.target, names))
    y = np.array([names.index(emoji.target[i]) for i in chosen])
    paths = [str(tmp_path / f"{i}.png") for i in chosen]
    for path, i in zip(paths, chosen, strict=True):
        emoji.images[i].save(path)
    pipe = make_candle_pipeline("emoji-clip", class_names=names, random_state=0)
    pipe.set_params(candle__max_iter=5)
    column = np.array(paths)[:, None]  # like a DataFrame
    for ensemble, images in [
        (BaggingClassifier(pipe, 3, random_state=0), column),
        (CalibratedClassifierCV(pipe, cv=2), paths),
        (VotingClassifier([("a", pipe), ("b", pipe)], voting="soft"), paths),
    ]:
        assert np.mean(ensemble.fit(images, y).predict(images) == y) > 2 / len(names)
    with pytest.raises(ValueError, match="Expected 2D array"):
        BaggingClassifier(pipe, 3).fit(paths, y)
    with pytest.raises(ValueError, match="Pipeline doesn't support sample_weight"):
        AdaBoostClassifier(pipe).fit(column, y)


# --- changing label sets ---------------------------------------------------------------------

COPIES = {
    "restrict": lambda clf: clf.restrict(NAMES[:3]),
    "add_classes": lambda clf: clf.add_classes([NAMES[N_SEEN]]),
    "with_prior": lambda clf: clf.with_prior("training"),
    "add_images": lambda clf: clf.add_images(X_ALL[~IS_SEEN], STRINGS[~IS_SEEN]),
}


def test_methods_are_where_the_document_says():
    estimators = {
        "CandleClassifier": CandleClassifier(),
        "PublishedCandleClassifier": PublishedCandleClassifier(),
        "CandlePipeline": CandlePipeline([("candle", CandleClassifier())]),
    }
    found = {
        method: {name: "yes" if hasattr(e, method) else "no" for name, e in estimators.items()}
        for method in METHODS
    }
    assert found == METHODS


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: CandlePipeline([("candle", c)])])
@pytest.mark.parametrize("method", COPIES)
def test_copies_work_like_any_other_estimator(method, wrap):
    y = STRINGS[IS_SEEN]
    copy = COPIES[method](wrap(make()).fit(X, y))
    expected = copy.predict_proba(X_ALL)
    again = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(again.predict_proba(X_ALL), expected)
    frozen = FrozenEstimator(copy).fit(X, y)
    np.testing.assert_array_equal(frozen.predict_proba(X_ALL), expected)
    last = copy[-1] if isinstance(copy, Pipeline) else copy
    np.testing.assert_array_equal(make_pipeline(last).predict_proba(X_ALL), expected)
    search = GridSearchCV(clone(copy), {}, cv=2, error_score="raise").fit(X, y)
    assert np.mean(search.predict(X) == y) > 0.6


def test_a_search_over_class_priors_works():
    priors = [None, "training", dict.fromkeys(NAMES, 1 / 8)]
    search = GridSearchCV(make(class_names=NAMES), {"class_prior": priors}, cv=2)
    assert np.isfinite(search.fit(X, STRINGS[IS_SEEN]).cv_results_["mean_test_score"]).all()


REJECTING = searches([{"rejection_rate": [0.05, 0.1]}]) | {
    name: TOOLS[name] for name in ("cross_val_predict", 'scoring="accuracy"')
}


@pytest.mark.parametrize("universe", COLUMNS)
@pytest.mark.parametrize("tool", REJECTING)
def test_tools_accept_a_rejecting_classifier(tool, universe):
    options, y = COLUMNS[universe]
    run, least = REJECTING[tool]
    assert run(RejectingClassifier(make(**options)), y[IS_SEEN]) > least
