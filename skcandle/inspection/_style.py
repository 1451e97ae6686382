"""The look of all displays: colours that are safe for colour-blind readers, and plain axes."""

# Okabe and Ito, "Color universal design", 2008; https://jfly.uni-koeln.de/color/
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
SKY = "#56B4E9"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", VERMILION, SKY, "#8C7A00", "#000000")
GREY = "#767676"

# In inches: 700 pixels wide at 100 dots per inch, the width of a README.
WIDTH, HEIGHT = 7.0, 4.2
SQUARE = (5.6, 5.4)


def plain(ax):
    """Remove everything that does not show data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#E4E4E4", linewidth=0.8)
    ax.set_axisbelow(True)


def shortened(text, length):
    """A label in one line, cut after `length` characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "\u2026"
