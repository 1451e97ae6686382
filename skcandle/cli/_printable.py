"""Text that is safe to print on a terminal."""

import unicodedata


def printable(text):
    """Escape control characters, and characters that cannot be encoded.

    Examples
    --------
    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if _is_shown(c) else repr(c)[1:-1] for c in text)


def _is_shown(character):
    spaces_and_joiners = unicodedata.category(character) == "Zs" or character in "\u200c\u200d"
    return character.isprintable() or spaces_and_joiners
