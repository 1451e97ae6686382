"""A fit that fails leaves the earlier fit whole."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

from sklearn.base import BaseEstimator

Fit = TypeVar("Fit", bound=Callable)


def keeps_an_earlier_fit(fit: Fit) -> Fit:
    """A fit that ends with an error, or is interrupted, leaves the estimator as it was.

    So it leaves the estimators that are its parameters, at any depth: a pipeline fits its steps
    themselves, not copies of them.
    """

    @wraps(fit)
    def whole(self, *args, **kwargs):
        parts = {id(part): part for part in [self, *_parameters(self)]}.values()
        former = [(part, vars(part).copy()) for part in parts]
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            for part, state in former:
                part.__dict__ = state
            raise

    return cast(Fit, whole)


def _parameters(estimator):
    return [value for value in estimator.get_params().values() if isinstance(value, BaseEstimator)]
