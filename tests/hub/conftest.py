import numpy as np
import pytest
from helpers import random_images

from skcandle import make_candle_pipeline

# No weight is estimated and nothing is trained, which takes the time of a fit.
QUICK = {
    "candle__temperature": 0.1,
    "candle__prototype_weight": 0.5,
    "candle__base_offset": 0.0,
    "candle__max_iter": 0,
}


@pytest.fixture(scope="session")
def images():
    return random_images(8)


@pytest.fixture(scope="session")
def quick_fit(images):
    """A function that fits a pipeline to six ants and two bees."""

    def fit(**params):
        y = params.pop("y", np.repeat(["ant", "bee"], [6, 2]))
        return make_candle_pipeline("emoji-clip").set_params(**QUICK, **params).fit(images, y)

    return fit


@pytest.fixture(scope="session")
def pipe(quick_fit):
    return quick_fit(candle__new_classes=["elk"])
