"""Text from other people inside Markdown, shown unchanged whatever it contains."""

import re
import unicodedata

# Letters, digits, underscores within words, and characters without a meaning in Markdown or HTML.
# Code hosts turn "www." into links.
HARMLESS = re.compile(
    r"(?!www\.)[^\W_]|(?<=[^\W_])_+(?=[^\W_])|[^\x00-\x7f]|[ ,.;'\"()/%+=?!{}-]", re.IGNORECASE
)
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def escaped(text):
    """Escape text so that each character stands for itself, in paragraphs and in tables.

    This uses character references, because backslashes have another meaning inside tables.

    Parameters
    ----------
    text : object
        Its ``str`` is escaped.

    Returns
    -------
    markdown : str
        One line. White space becomes single spaces; control characters, also those that change the
        direction of text, become U+FFFD.
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
    """Whether a character is a control character or changes the direction of text."""
    return unicodedata.category(sign) == "Cc" or unicodedata.bidirectional(sign) in DIRECTIONS


def table(header, rows):
    """Escape the cells of a table.

    Parameters
    ----------
    header : list of str
    rows : iterable of lists

    Returns
    -------
    table : dict of str to list of str
        The columns, for :meth:`skops.card.Card.add_table`.
    """
    columns = zip(*rows, strict=True)
    return {name: list(map(escaped, column)) for name, column in zip(header, columns, strict=True)}
