"""Types in public signatures."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

# Collections of images and of labels have many forms (list, array, Series, DataFrame, ...) of
# libraries that need not be installed.
Images: TypeAlias = Any
Labels: TypeAlias = Any
Path: TypeAlias = str | PathLike[str]
RandomState: TypeAlias = int | np.random.RandomState | None
TextEncoder: TypeAlias = (
    str | Mapping[Any, ArrayLike] | Callable[[list[str]], ArrayLike] | Any | None
)
ClassNames: TypeAlias = Sequence[str] | Mapping[Any, str | Sequence[str]] | None
ClassPrior: TypeAlias = str | ArrayLike | Mapping[Any, float] | None
