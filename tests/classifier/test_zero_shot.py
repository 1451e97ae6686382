"""Logits of zero-shot CLIP."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skcandle.classifier._zero_shot import zero_shot_logits

TEXTS = np.eye(3)[:2]


@pytest.mark.parametrize("length", [1e-3, 1.0, 50.0])
def test_logits_are_a_hundred_times_the_cosines_whatever_the_length_of_an_embedding(length):
    angle = np.deg2rad([0, 30, 90])
    X = length * np.column_stack([np.cos(angle), np.sin(angle), np.zeros(3)])
    assert_allclose(
        zero_shot_logits(X, TEXTS), 100 * np.column_stack([np.cos(angle), np.sin(angle)])
    )


def test_an_unreadable_image_has_no_logits_and_a_zero_embedding_has_equal_ones():
    logits = zero_shot_logits([[np.nan] * 3, [0, 0, 0], [0, 2, 0]], TEXTS)
    assert np.isnan(logits[0]).all()
    assert logits[1:].tolist() == [[0, 0], [0, 100]]
