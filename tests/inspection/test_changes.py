"""Images that two pipelines answer differently."""

import numpy as np

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
