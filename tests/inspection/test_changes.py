"""Images that two pipelines answer differently."""

import numpy as np
import pytest
from helpers import save_tiny_clip
from sklearn.base import clone

from skcandle import CLIPFeaturizer, load_embeddings, make_candle_pipeline, save_embeddings
from skcandle.datasets import load_emoji
from skcandle.exceptions import ModelError
from skcandle.inspection import ChangedAnswer, changed_answers


class Answering:
    """A pipeline with given probabilities; images are rows of them."""

    def __init__(self, labels, proba):
        self.labels, self.proba = np.array(labels), np.array(proba)

    def predict(self, images):
        return self.labels[self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images):
        return self.proba[images]


def test_only_changed_answers_are_listed_the_most_certain_first():
    before = Answering(["ant", "bee"], [[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    after = Answering(["ant", "cat"], [[0.3, 0.7], [0.4, 0.6], [0.7, 0.3], [0.3, 0.7]])
    assert changed_answers(before, after, [0, 1, 2, 3]) == [
        ChangedAnswer(1, "ant", "cat", 0.9, 0.6),
        ChangedAnswer(3, "bee", "cat", 0.8, 0.7),
        ChangedAnswer(0, "ant", "cat", 0.6, 0.7),
    ]


def test_equal_pipelines_have_no_changes():
    one = Answering([3, 5], [[0.6, 0.4], [0.1, 0.9]])
    assert changed_answers(one, one, [1, 0]) == []


@pytest.mark.filterwarnings("ignore:Zero-shot predictions are correct")  # random weights
def test_a_pipeline_moves_to_another_clip(tmp_path):
    """The recipe of doc/models.rst, with a model of random weights and another width."""
    emoji = load_emoji()
    rows = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon", "cat", "dog"]))
    images, y = [emoji.images[row] for row in rows], emoji.target[rows]
    labelled, rest = images[::2], images[1::2]
    old = make_candle_pipeline("emoji-clip", new_classes=["pizza"]).fit(labelled, y[::2])

    (tmp_path / "clip").mkdir()
    name = f"local-dir:{save_tiny_clip(tmp_path / 'clip', seed=0)}"
    new = clone(old).set_params(
        clip__model_name=name,
        clip__pretrained=None,
        candle__text_encoder__model_name=name,
        candle__text_encoder__pretrained=None,
    )
    new.fit(labelled, y[::2])
    assert new.classes_.tolist() == old.classes_.tolist()

    changes = changed_answers(old, new, rest)
    expected = np.flatnonzero(old.predict(rest) != new.predict(rest)).tolist()
    assert expected and sorted(change.position for change in changes) == expected

    clip = CLIPFeaturizer(name)
    save_embeddings(tmp_path / "rows.npz", clip.transform(rest), clip)
    with pytest.raises(ModelError, match=rf"the CLIP 'emoji-clip' .* the CLIP '{name}'"):
        old["candle"].predict(load_embeddings(tmp_path / "rows.npz")[1])
