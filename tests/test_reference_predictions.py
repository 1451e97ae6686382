"""Results do not change unnoticed; reference_predictions.py says when they may change."""

import json

import pytest
from numpy.testing import assert_allclose
from reference_predictions import CLASSIFIERS, DATA, PREDICTIONS, predict


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("kind", DATA)
def test_predictions_equal_the_stored_ones(kind, name):
    expected = json.loads(PREDICTIONS.read_text())[f"{kind}, {name}"]
    # the estimation amplifies rounding errors, which differ between processors and versions
    assert_allclose(predict(name, DATA[kind]()), expected, atol=1e-3)
