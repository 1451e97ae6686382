"""Text of others inside Markdown: shown as it is, whatever it holds."""

import re
import unicodedata

# Letters, digits, underscores within words, and signs that start nothing in Markdown or HTML.
# Code hosts make links of "www.".
HARMLESS = re.compile(
    r"(?!www\.)[^\W_]|(?<=[^\W_])_+(?=[^\W_])|[^\x00-\x7f]|[ ,.;'\"()/%+=?!{}-]", re.IGNORECASE
)
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def escaped(text):
    """One line in which every character stands for itself, in paragraphs and in tables.

    Character references are used and no backslashes, which are read differently inside tables.

    Parameters
    ----------
    text : object
        Its `str`.

    Returns
    -------
    markdown : str
        White space is single spaces, control characters, those of direction too, are U+FFFD.
    """
    line = " ".join(str(text).split())
    line = "".join("\ufffd" if _controls(sign) else sign for sign in line)
    return re.sub(
        f"({HARMLESS.pattern})|(.)",
        lambda match: match[1] or f"&#{ord(match[2])};",
        line,
        flags=HARMLESS.flags,
    )


def _controls(sign):
    """Whether a character is a control, or turns the direction of others."""
    return unicodedata.category(sign) == "Cc" or unicodedata.bidirectional(sign) in DIRECTIONS


def table(header, rows):
    """A table of escaped cells.

    Parameters
    ----------
    header : list of str
    rows : iterable of lists

    Returns
    -------
    table : dict of str to list of str
        The columns, as :meth:`skops.card.Card.add_table` takes them.
    """
    columns = zip(*rows, strict=True)
    return {name: list(map(escaped, column)) for name, column in zip(header, columns, strict=True)}
