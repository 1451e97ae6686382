"""Results do not change unseen; reference_predictions.py says when they may."""

import json

import pytest
from numpy.testing import assert_allclose
from reference_predictions import CLASSIFIERS, DATA, PREDICTIONS, predict


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("kind", DATA)
def test_predictions_are_those_that_were_kept(kind, name):
    expected = json.loads(PREDICTIONS.read_text())[f"{kind}, {name}"]
    # rounding is amplified by what is estimated, and differs among processors and versions
    assert_allclose(predict(name, DATA[kind]()), expected, atol=1e-3)
