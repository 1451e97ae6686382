"""Types in public signatures."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

# Images and labels come in many forms (list, array, Series, DataFrame, ...), some of them from
# libraries that may not be installed.
Images: TypeAlias = Any
Labels: TypeAlias = Any
Path: TypeAlias = str | PathLike[str]
RandomState: TypeAlias = int | np.random.RandomState | None


class EncodesText(Protocol):
    """An object that embeds prompts, such as a CLIPFeaturizer."""

    def encode_text(self, prompts: list[str], /) -> ArrayLike:
        """Rows of the prompts, of shape (n_prompts, n_features)."""
        ...


TextEncoder: TypeAlias = (
    Literal["auto"]
    | EncodesText
    | Callable[[list[str]], ArrayLike]
    | Mapping[Any, ArrayLike]
    | None
)
ClassNames: TypeAlias = Sequence[str] | Mapping[Any, str | Sequence[str]] | None
ClassPrior: TypeAlias = str | ArrayLike | Mapping[Any, float] | None
