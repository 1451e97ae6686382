"""Private names of scikit-learn that the library needs.

All imports of them are here, so that a release of scikit-learn that moves one breaks one module.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import get_namespace
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _wrap_data_with_container as wrap_data_with_container
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Estimators have no `set_callbacks`."""

    callback_management_context = None

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "callback_management_context",
    "check_sample_weight",
    "fit_context",
    "get_namespace",
    "is_pandas_na",
    "is_scalar_nan",
    "safe_indexing",
    "wrap_data_with_container",
]
