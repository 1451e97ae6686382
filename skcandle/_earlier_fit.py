"""A fit that fails leaves the estimator as it was."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

from sklearn.base import BaseEstimator

Fit = TypeVar("Fit", bound=Callable)


def keeps_an_earlier_fit(fit: Fit) -> Fit:
    """Decorate a `fit` that restores the estimator if it raises an error or is interrupted.

    Estimators that are parameters, at any depth, are restored as well: a pipeline fits its steps
    themselves, not copies of them.
    """

    @wraps(fit)
    def restoring(self, *args, **kwargs):
        parts = {id(part): part for part in [self, *_parameters(self)]}.values()
        former = [(part, vars(part).copy()) for part in parts]
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            for part, state in former:
                part.__dict__ = state
            raise

    return cast(Fit, restoring)


def _parameters(estimator):
    return [value for value in estimator.get_params().values() if isinstance(value, BaseEstimator)]
