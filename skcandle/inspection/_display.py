"""The base class of all displays."""

from typing import Any, TypeVar

from ._style import HEIGHT, WIDTH

AnyDisplay = TypeVar("AnyDisplay", bound="Display")


class Display:
    """Base class of displays: dataclasses that hold the values they draw.

    A subclass draws in ``_draw(ax)``. ``from_estimator`` and ``from_predictions`` compute the
    values and call :meth:`plot`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Figure of the axes.
    """

    ax_: Any
    figure_: Any
    _figure_size = (WIDTH, HEIGHT)  # in inches

    def plot(self: AnyDisplay, ax: Any = None) -> AnyDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : Display
            The display itself.
        """
        self._draw(self._set_axes(ax, self._figure_size))
        return self

    def _draw(self, ax):
        raise NotImplementedError

    def _set_axes(self, ax, figure_size):
        """Set `ax_` and `figure_`; without axes, create a figure of this size."""
        plt = require_matplotlib(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=figure_size, dpi=100, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def require_matplotlib(caller):
    """Return pyplot, or raise an error with the command that installs it.

    Parameters
    ----------
    caller : str
        Name of the display, for the error.

    Returns
    -------
    pyplot : module
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib; install it with `pip install "skcandle[plots]"`.'
        ) from error
    return plt
