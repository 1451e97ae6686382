"""The comparison behind ``skcandle demo``, and its table, sentences, picture and page."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import ttest_1samp

pytest.importorskip("matplotlib")

from skcandle.cli import _demo
from skcandle.cli._demo import _evaluation, _page, _picture, _summary
from skcandle.cli._demo._evaluation import BAND_KEYS, METHODS, ZERO_SHOT

pytestmark = pytest.mark.slow  # the evaluation takes seconds


@pytest.fixture(scope="module")
def evaluation():
    return _evaluation.evaluate(n_draws=2)


def with_differences(evaluation, difference):
    """The evaluation, but with Candle ahead by `difference` in every measure and draw."""
    values = np.array([[0.5, 0.5, 0.5 + difference], [0.6, 0.6, 0.6 + difference]])
    return replace(evaluation, measures={key: values for key in evaluation.measures})


# --- the task and what is measured -----------------------------------------------------------


def test_new_classes_have_test_images_only(evaluation):
    data, draw = evaluation.data, evaluation.first
    assert not set(data.y[draw.train]) & set(draw.new)
    assert set(draw.new) < set(data.y[draw.test])
    assert not set(draw.train) & set(draw.test)


def test_a_seed_gives_one_draw(evaluation):
    y = evaluation.data.y
    again, other = _evaluation.draw_task(y, seed=0), _evaluation.draw_task(y, seed=1)
    assert np.array_equal(again.train, evaluation.first.train)
    assert not np.array_equal(again.new, other.new)


def test_all_methods_answer_among_all_classes(evaluation):
    shape = (len(evaluation.y_true), len(evaluation.data.classes))
    for method in METHODS:
        assert evaluation.proba[method].shape == shape
        answers = evaluation.data.classes[evaluation.proba[method].argmax(axis=1)]
        first = answers[: len(evaluation.first.test)]
        assert 0 < np.isin(first, evaluation.first.new).mean() < 1


def test_measures_are_those_of_the_answers(evaluation):
    n_test = len(evaluation.first.test)
    for column, method in enumerate(METHODS):
        answers = evaluation.data.classes[evaluation.proba[method].argmax(axis=1)]
        right = (answers == evaluation.y_true).reshape(2, n_test)
        assert evaluation.measures["accuracy"][:, column] == pytest.approx(right.mean(axis=1))
    assert set(BAND_KEYS) < set(evaluation.measures)


def test_the_gate_leaves_zero_shot_the_choice_between_base_and_new():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4)), np.repeat(["b", "d", "e"], 4)
    X_test, zero_shot = rng.normal(size=(5, 4)), rng.normal(size=(5, 5))
    is_base = np.array([False, True, False, True, True])
    logits = _evaluation.gated_logistic_regression(X, y, X_test, zero_shot, is_base)
    gated, plain = softmax(logits, axis=1), softmax(zero_shot, axis=1)
    assert np.allclose(gated[:, ~is_base], plain[:, ~is_base])
    assert not np.allclose(gated[:, is_base], plain[:, is_base])


def test_one_draw_gives_no_interval():
    with pytest.raises(ValueError, match=r"n_draws must be at least 2, got 1"):
        _evaluation.evaluate(n_draws=1)


def test_typed_names_are_new_and_can_be_answered_only_afterwards(evaluation):
    typed, data = evaluation.typed[0], evaluation.data
    assert set(typed.names) < set(evaluation.first.new)
    assert data.y[typed.shown].tolist() == typed.names
    assert not np.isin(typed.before, typed.names).any()
    assert typed.counts.n_images == np.isin(data.y, typed.names).sum()
    n_right_of_shown = np.count_nonzero(typed.after == data.y[typed.shown])
    assert n_right_of_shown <= typed.counts.n_right <= typed.counts.n_images


def test_typed_names_are_counted_over_all_draws(evaluation):
    first, second = (typed.counts for typed in evaluation.typed)
    assert evaluation.typed[0].names != evaluation.typed[1].names
    assert evaluation.typed_counts().n_right == first.n_right + second.n_right
    assert evaluation.typed_counts().n_images == first.n_images + second.n_images


# --- numbers and words -----------------------------------------------------------------------


def test_intervals_are_student_s():
    values = np.array([0.3, 0.5, 0.4, 0.8])
    found = _summary.estimate(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("mean", "higher_is_better", "word"),
    [(2, True, "better"), (2, False, "worse"), (-2, True, "worse"), (-2, False, "better")],
)
def test_verdicts_follow_the_sign_and_the_direction(mean, higher_is_better, word):
    assert _summary.verdict(_summary.Estimate(mean, 1.0), higher_is_better) == word
    assert _summary.verdict(_summary.Estimate(mean, 3.0), higher_is_better) == "level"


def test_differences_are_paired(evaluation):
    """If methods differ equally in all draws, the interval has no width."""
    made = with_differences(evaluation, 0.05)
    difference = _summary.of_difference(made, "accuracy", ZERO_SHOT)
    assert difference == pytest.approx((5, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.05, "5.0 ± 0.0 points more than zero-shot CLIP"),
        (-0.05, "5.0 ± 0.0 points fewer than zero-shot CLIP"),
        (0.0, "no clear difference from zero-shot CLIP"),
    ],
)
def test_sentences_follow_from_the_numbers(evaluation, difference, said):
    sentences = _summary.sentences(with_differences(evaluation, difference))
    assert len(sentences) == 5
    assert said in sentences[1]
    word = {5: "ahead with", -5: "behind with", 0: "level with"}[round(100 * difference)]
    assert word in sentences[2]
    assert len(re.findall("(ahead|behind|level) with", sentences[2])) == 2  # of two rivals


def test_the_table_names_losses(evaluation):
    lines = _summary.table(with_differences(evaluation, -0.05)).splitlines()
    assert max(map(len, lines)) < 80
    second = lines[lines.index("") :]
    accuracy = next(line for line in second if line.startswith("accuracy"))
    log_loss = next(line for line in second if line.startswith("log-loss"))
    assert accuracy.split().count("worse") == 2
    assert log_loss.split().count("better") == 2  # lower is better


# --- picture and page ------------------------------------------------------------------------


def test_the_picture_says_what_was_learned_from_and_what_was_typed(evaluation):
    figure = _picture.new_figure(evaluation)
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    typed, counts = evaluation.typed[0], evaluation.typed_counts()
    assert any(f"0 of {counts.n_images} correct before, then {counts.n_right}" in t for t in texts)
    n_all, n_new = len(evaluation.data.classes), len(evaluation.first.new)
    assert f"Training data: images of {n_all - n_new} kinds, names of {n_all}" in texts
    for index, position in enumerate(typed.shown):
        mark = "✓" if typed.after[index] == evaluation.data.y[position] else "✗"
        assert any(text.startswith(f"{mark} {typed.after[index][:9]}") for text in texts)


def test_all_parts_of_the_picture_have_room(evaluation):
    """No title, label or axis exceeds the picture or overlaps another title."""
    figure = _picture.new_figure(evaluation)
    figure.savefig(io.BytesIO())  # lays out twice, as in use: the first time moves what is large
    titles = [axes._left_title for axes in figure.axes if axes._left_title.get_text()]
    boxes = [title.get_window_extent() for title in titles]
    assert len(boxes) == 4
    for index, box in enumerate(boxes):
        assert box.x1 < figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_the_page_needs_no_other_file(evaluation):
    html = _page.page(evaluation, b"picture")
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in html
    assert "http:" not in html and "https:" not in html
    for method in METHODS:
        assert f">{method}</th>" in html
    assert html.count("<li>") == 5
    assert html.count('<th scope="row"') == len(_summary.MEASURES)


def test_the_page_escapes_names(evaluation):
    typed = replace(evaluation.typed[0], names=["<b>x</b>", "cow"])
    html = _page.page(replace(evaluation, typed=[typed]), b"")
    assert "&lt;b&gt;x&lt;/b&gt;" in html and "<b>x</b>" not in html


# --- files -----------------------------------------------------------------------------------


def test_table_picture_and_page(evaluation, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_evaluation, "evaluate", lambda n_draws: evaluation)
    picture, page = _demo.main(tmp_path / "demo")
    assert capsys.readouterr().out.startswith(_summary.table(evaluation))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [page.name, picture.name]

    page.write_text("mine")
    with pytest.raises(FileExistsError, match="already exists; --force replaces it"):
        _demo.main(tmp_path / "demo")
    assert page.read_text() == "mine"
    _demo.main(tmp_path / "demo", force=True)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
