"""Callbacks of scikit-learn during a fit."""

import numpy as np
import pytest

from skcandle import (
    CandleClassifier,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.classifier._iterations import ObjectiveBar, iterations
from skcandle.datasets import load_emoji
from skcandle.hub._model_files import foreign_types, from_bytes, to_bytes

pytest.importorskip("sklearn.callback")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 8)), np.repeat(["a", "b", "c"], 10)
TEXT = dict(zip("abc", RNG.normal(size=(3, 8)), strict=True))


class Recorder:
    """A callback that notes what it is told."""

    def __init__(self):
        self.told = []
        self.objectives = []
        self.fitted = None

    def setup(self, estimator, context):
        self.told.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, metadata=None, fitted_estimator=None):
        self.told.append(f"end {context.task_name}")
        self.objectives += [metadata["objective"]] if "objective" in metadata else []
        self.fitted = fitted_estimator

    def teardown(self, estimator, context):
        self.told.append("teardown")


CLASSIFIERS = [
    CandleClassifier(text_encoder=TEXT),
    PublishedCandleClassifier(text_encoder=TEXT, max_iter=3),
]


@pytest.mark.parametrize("clf", CLASSIFIERS)
def test_callbacks_are_told_of_each_iteration(clf):
    recorder = Recorder()
    clf.set_callbacks(recorder).fit(X, Y)
    clf.set_callbacks()
    assert len(recorder.objectives) == clf.n_iter_ >= 1
    assert set(recorder.objectives) <= set(clf.loss_curve_)
    assert recorder.told[:2] == ["setup", "begin fit"]
    assert recorder.told[-2:] == ["end fit", "teardown"]
    middle = recorder.told[2:-2]
    assert middle == ["begin iteration", "end iteration"] * (len(middle) // 2)
    np.testing.assert_array_equal(recorder.fitted.predict(X), clf.predict(X))


def test_callbacks_do_not_change_the_fit():
    clf = CandleClassifier(text_encoder=TEXT)
    expected = clf.fit(X, Y).predict_proba(X)
    found = clf.set_callbacks(Recorder()).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)


def test_callbacks_inside_a_rejecting_classifier():
    recorder = Recorder()
    RejectingClassifier(CandleClassifier(text_encoder=TEXT).set_callbacks(recorder)).fit(X, Y)
    assert recorder.told[0] == "setup" and recorder.told[-1] == "teardown"


def test_a_fit_that_fails_ends_its_callbacks():
    recorder = Recorder()
    clf = CandleClassifier(text_encoder=TEXT, verbose=1).set_callbacks(recorder)
    with pytest.raises(ValueError, match="inconsistent"):
        clf.fit(X, Y[:-1])
    assert recorder.told == ["setup", "begin fit", "teardown"]
    assert clf._skl_callbacks == [recorder]
    assert not hasattr(clf, "_callback_fit_ctx")


@pytest.mark.parametrize("clf", CLASSIFIERS)
def test_the_progress_bar_is_a_callback_of_one_fit(clf, capsys, monkeypatch):
    starts = []
    start = ObjectiveBar.start
    monkeypatch.setattr(
        ObjectiveBar, "start", lambda bar, *args: starts.append(args) or start(bar, *args)
    )
    clf.set_params(verbose=1).fit(X, Y).set_params(verbose=0)
    assert starts == [(clf.max_iter, type(clf).__name__)]
    assert not hasattr(clf, "_skl_callbacks")
    shown = capsys.readouterr().err
    assert f"{clf.n_iter_}/{clf.n_iter_}" in shown and "objective" in shown


def test_without_callbacks_there_is_the_same_progress_bar(capsys):
    """As with versions of scikit-learn before 1.9."""
    clf = CandleClassifier(verbose=1)
    with iterations(clf, 5) as report:
        report(1, 0.5)
        report(3, 0.25)
    shown = capsys.readouterr().err
    assert "CandleClassifier" in shown and "3/3" in shown and "objective 0.2500" in shown


def test_callbacks_are_not_part_of_a_model_file():
    emoji = load_emoji()
    rows = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    pipe = make_candle_pipeline("emoji-clip")
    pipe["candle"].set_callbacks(Recorder())
    pipe.fit([emoji.images[i] for i in rows], emoji.target[rows])
    data = to_bytes(pipe)
    assert foreign_types(data) == []
    assert not hasattr(from_bytes(data, "file")["candle"], "_skl_callbacks")
    assert pipe["candle"]._skl_callbacks
