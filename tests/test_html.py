"""Links in the HTML representation of estimators."""

from email.message import Message

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
    _documentation,
    make_candle_pipeline,
)

ESTIMATORS = [
    CandleClassifier(),
    CLIPFeaturizer(),
    PublishedCandleClassifier(),
    RejectingClassifier(CandleClassifier()),
    make_candle_pipeline("emoji-clip"),
]


@pytest.fixture
def published(monkeypatch):
    """The package states where its documentation is."""
    about = Message()
    about["Project-URL"] = "Source, https://example.org/source"
    about["Project-URL"] = "Documentation, https://example.org/docs/"
    monkeypatch.setattr(_documentation, "metadata", lambda name: about)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_an_estimator_links_to_its_page(published, estimator):
    link = f"https://example.org/docs/generated/skcandle.{type(estimator).__name__}.html"
    assert link in estimator_html_repr(estimator)


def test_without_a_published_documentation_there_is_no_link(monkeypatch):
    monkeypatch.setattr(_documentation, "metadata", lambda name: Message())
    assert CandleClassifier()._get_doc_link() == ""
    assert "generated/skcandle" not in estimator_html_repr(CandleClassifier())


def test_estimators_of_scikit_learn_keep_their_links(published):
    html = estimator_html_repr(make_pipeline(CLIPFeaturizer(), LogisticRegression()))
    assert "scikit-learn.org" in html and "example.org/docs/generated/skcandle.CLIPF" in html
