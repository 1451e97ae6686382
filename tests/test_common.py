"""scikit-learn's estimator checks, including some that check_estimator omits, and docstrings."""

import inspect
from importlib import import_module
from zlib import crc32

import numpy as np
import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate
from sklearn.base import BaseEstimator
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
)
from skcandle.classifier._text_features import ClassTextEncoder

CLASSIFIERS = [CandleClassifier(), CandleClassifier(text_encoder=None)]
# The published method needs text, but the data of scikit-learn's checks have none. It is trained
# without dropout, which would differ between a repeated image and one of weight two.
NOT_FOR_TEXT = {
    "check_estimators_dtypes": "a row of small integers may be all zeros, which has no direction",
    "check_classifiers_train": "the stand-in encoder returns random texts, so accuracy is random",
}


@parametrize_with_checks(CLASSIFIERS)
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [PublishedCandleClassifier(text_encoder={}, max_iter=2, dropout=0.0)],
    expected_failed_checks=lambda estimator: NOT_FOR_TEXT,
)
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_scikit_learns_checks_with_a_stand_in_for_text(estimator, check, monkeypatch):
    def stand_in(self, labels, names, n_features):
        seeds = [crc32(repr(label).encode()) for label in labels]
        return np.stack([np.random.default_rng(s).normal(size=n_features) for s in seeds])

    monkeypatch.setattr(ClassTextEncoder, "__call__", stand_in)
    check(estimator)


# A rejecting classifier predicts a label that is not among the classes.
REJECTS = {
    "check_classifiers_train": "rejected images are not predicted as their most probable class",
}


@parametrize_with_checks(
    [RejectingClassifier(CandleClassifier(text_encoder=None), rejection_rate=0.01)],
    expected_failed_checks=lambda estimator: REJECTS,
)
@pytest.mark.filterwarnings("ignore:The training images are worth:UserWarning")
def test_scikit_learns_checks_of_a_rejecting_classifier(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=repr)
@pytest.mark.parametrize(
    "check", ["check_param_validation", "check_dataframe_column_names_consistency"]
)
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_checks_of_classifiers_that_check_estimator_omits(estimator, check):
    getattr(estimator_checks, check)("CandleClassifier", estimator)


ESTIMATORS = [
    CandleClassifier(),
    PublishedCandleClassifier(),
    CLIPFeaturizer(),
    RejectingClassifier(None),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_every_parameter_is_constrained(estimator):
    assert set(estimator._parameter_constraints) == set(estimator.get_params(deep=False))


def test_column_names_are_kept_and_compared():
    pd = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(20, 4))
    frame = pd.DataFrame(X, columns=list("abcd"))
    y = pd.Series(["cat", "dog"] * 10, index=range(100, 120))
    clf = CandleClassifier(text_encoder=None).fit(frame, y)
    assert clf.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame[list("dcba")])


@pytest.mark.parametrize("container", ["list", "Series", "categorical", "string"])
def test_labels_of_any_container(container):
    pd = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(20, 4)) + np.arange(20)[:, None] % 2
    y = ["cat", "dog"] * 10
    labels = {
        "list": list,
        "Series": pd.Series,
        "categorical": pd.Categorical,
        "string": lambda y: pd.Series(y, dtype="string"),
    }[container](y)
    clf = CandleClassifier(text_encoder=None, random_state=0).fit(X, labels)
    expected = CandleClassifier(text_encoder=None, random_state=0).fit(X, np.array(y))
    assert clf.classes_.tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(clf.predict(X), expected.predict(X))


# --- the featurizer --------------------------------------------------------------------------


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip, pretrained=None)


@pytest.mark.parametrize("config", ["default", "pandas"])
def test_output_container_of_the_featurizer(clip, images, config):
    pd = pytest.importorskip("pandas")
    result = clip.set_output(transform=config).fit(images).transform(images)
    expected = clip.set_output(transform="default").transform(images)
    assert isinstance(result, pd.DataFrame if config == "pandas" else np.ndarray)
    np.testing.assert_array_equal(np.asarray(result), expected)
    if config == "pandas":
        assert result.columns.tolist() == clip.get_feature_names_out().tolist()


def test_feature_names_of_the_featurizer(clip, images):
    names = clip.fit(images).get_feature_names_out()
    assert names.dtype == object
    assert len(set(names)) == len(names) == clip.transform(images).shape[1]


# --- docstrings and signatures ---------------------------------------------------------------

# Codes of numpydoc's validation that are not required here: an extended summary, an example and See
# Also in every docstring; results without a name, which scikit-learn's have; a verb as the first
# word.
NOT_ASKED = {"GL01", "ES01", "EX01", "SA01", "RT02", "SS05"}
MODULES = [
    "skcandle",
    "skcandle.datasets",
    "skcandle.exceptions",
    "skcandle.inspection",
    "skcandle.metrics",
    "skcandle.model_selection",
    "skcandle.scale_out",
]


PUBLIC = {
    f"{module}.{name}": thing
    for module in MODULES
    for name in import_module(module).__all__
    if callable(thing := getattr(import_module(module), name))  # neither modules nor tables
}


def with_methods(name):
    """Name and object of what is public, and those of its public methods."""
    thing = PUBLIC[name]
    yield name, thing
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for method, function in inspect.getmembers(thing, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("skcandle"):
                yield f"{name}.{method}", function


def flaws(name, thing):
    """What numpydoc, a type checker or a newcomer would miss."""
    document = Validator(get_doc_object(thing))
    not_asked = NOT_ASKED | ({"RT01"} if document.yields else set())
    found = [error for error in validate(name)["errors"] if error[0] not in not_asked]
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        parameters = {k: p.annotation for k, p in signature.parameters.items() if k != "self"}
        types = parameters | {"result": signature.return_annotation}
        found += [f"no type of {key}" for key, type_ in types.items() if type_ is signature.empty]
    elif issubclass(thing, BaseEstimator) and not document.examples:
        found.append("no example")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_is_documented_and_typed(name):
    assert {key: found for key, thing in with_methods(name) if (found := flaws(key, thing))} == {}


TEXTS = {"cat": [1.0, 0, 2], "dog": [0, 1.0, 1]}


@pytest.mark.parametrize(
    "classifier, text_encoder",
    [(CandleClassifier, None), (CandleClassifier, TEXTS), (PublishedCandleClassifier, TEXTS)],
)
def test_documented_attributes_of_a_classifier_are_those_after_fit(classifier, text_encoder):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 3)), columns=list("abc"))
    clf = classifier(text_encoder=text_encoder).fit(frame, ["cat", "dog"] * 4)
    learned = {name for name in vars(clf) if name.endswith("_") and not name.startswith("_")}
    documented = {attribute.name for attribute in get_doc_object(classifier)["Attributes"]}
    assert learned == documented
