"""The names of scikit-learn that the library needs and that are not public.

They are here together so that a release of scikit-learn which moves one is noticed in one
place; ``tests/test_private_names.py`` says which.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _wrap_data_with_container as wrap_data_with_container
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_sample_weight",
    "fit_context",
    "is_pandas_na",
    "is_scalar_nan",
    "wrap_data_with_container",
]
