"""How all displays look: colours that colour-blind readers can tell apart, and plain axes."""

# Okabe and Ito, "Color universal design", 2008; https://jfly.uni-koeln.de/color/
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
SKY = "#56B4E9"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", VERMILION, SKY, "#8C7A00", "#000000")
GREY = "#767676"

# 700 pixels wide at 100 dots per inch, the width of a README.
WIDTH, HEIGHT = 7.0, 4.2
SQUARE = {"width": 5.6, "height": 5.4}


def require_matplotlib(caller):
    """Pyplot, or an error with the command that installs it.

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


def axes_for(display, ax, *, width=WIDTH, height=HEIGHT):
    """Set `ax_` and `figure_` of a display.

    Parameters
    ----------
    display : object
        The display, whose attributes are set.
    ax : matplotlib Axes or None
        None makes a figure of its own.
    width, height : float
        Of a figure of its own, in inches.

    Returns
    -------
    ax : matplotlib Axes
    """
    plt = require_matplotlib(type(display).__name__)
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), dpi=100, layout="constrained")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def plain(ax):
    """Take off what does not carry data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#E4E4E4", linewidth=0.8)
    ax.set_axisbelow(True)


def shortened(text, length):
    """A label in one line, cut where it is longer."""
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "\u2026"
