"""What holds after any sequence of labels, new classes, undo and redo."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers import clip_like
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skcandle.labelling import NONE, SKIP, UNLABELLED, LabellingSession
from skcandle.labelling._journal import Journal

NAMES = ["ant", "bee", "cat", "dog", "elk"]
X, _, TEXTS = clip_like([3, 2, 2, 2, 1], 8, noise=0.5)
IMAGES = [f"{i}.png" for i in range(len(X))]
TEXT = dict(zip(NAMES, TEXTS, strict=True))

labels = st.tuples(
    st.just("label"),
    st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=3, unique=True),
    st.sampled_from([*NAMES, *NAMES, NONE, SKIP, UNLABELLED]),
    st.sampled_from([None, *NAMES]),
)
actions = st.one_of(
    labels,
    st.tuples(st.just("add_class"), st.sampled_from(NAMES)),
    st.just(("undo",)),
    st.just(("redo",)),
)


def new_session(journal=None, classes=("ant",)):
    return LabellingSession(
        IMAGES, X, classes=classes, text_encoder=TEXT, names=IMAGES, journal=journal
    )


def do(session, action):
    kind, *values = action
    if kind == "label":
        images, answer, shown = values
        session.label(images, answer, shown=None if shown is None else [shown] * len(images))
    else:
        getattr(session, kind)(*values)


def state_of(session):
    return session.labels.tolist(), session.class_names, session.progress


@given(steps=st.lists(actions, max_size=15))
def test_undo_of_anything_gives_the_state_before_and_redo_the_state_after(steps):
    session = new_session()
    history, now = [state_of(session)], 0
    for step in steps:
        if step[0] == "undo":
            now = max(now - 1, 0)
        elif step[0] == "redo":
            now = min(now + 1, len(history) - 1)
        elif step[0] == "add_class" and step[1] in session.class_names:
            pass
        else:
            do(session, step)
            history, now = [*history[: now + 1], state_of(session)], now + 1
            continue
        do(session, step)
        assert state_of(session) == history[now]
        assert (session.can_undo, session.can_redo) == (now > 0, now < len(history) - 1)


@given(steps=st.lists(actions, max_size=15))
def test_replay_of_the_journal_gives_the_same_state(steps):
    with tempfile.TemporaryDirectory() as folder:
        path, photos = Path(folder, "labels.journal.jsonl"), Path(folder)
        with new_session(Journal(path, photos)) as session:
            for step in steps:
                do(session, step)
        with new_session(Journal(path, photos)) as again:
            while True:
                assert state_of(again) == state_of(session)
                session._labels._journal = None  # its journal is closed
                if again.undo() != session.undo() or not again.can_undo:
                    break
            assert state_of(again) == state_of(session)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(steps=st.lists(labels, max_size=8), detours=st.lists(actions, max_size=4))
def test_answers_follow_from_the_labels_and_not_from_the_way_to_them(steps, detours):
    session, direct = new_session(classes=NAMES), new_session(classes=NAMES)
    for step in steps:
        do(session, step)
        for detour in detours:
            if detour[0] in ("label", "add_class"):
                n_before = len(session._labels._done)
                do(session, detour)
                assert len(session.answers.label) == len(X)  # computed on the way
                if len(session._labels._done) > n_before:
                    session.undo()
    for image, label in session._labels.snapshot().labels:
        direct.label([image], label.answer)
    for column, expected in zip(session.answers, direct.answers, strict=True):
        assert_allclose(column, expected, atol=1e-3, rtol=1e-3)
    assert np.array_equal(session.labels, direct.labels)
