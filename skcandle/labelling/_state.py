"""Labels of images and the classes that they name, with undo."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple
from unicodedata import normalize

from ..classifier._text_features import words
from ..inspection._csv import FORMULA

# Labels of images that do not have a class; classes are labels from 0 on.
UNLABELLED, NONE, SKIP = -1, -2, -3
MAX_NAME = 200  # characters of the name of a class


class Label(NamedTuple):
    """What a person said about an image.

    Parameters
    ----------
    answer : str or int
        Name of a class, NONE or SKIP.
    when : str
        Time in ISO 8601.
    number : int
        Number of the action that gave the image its first label.
    shown : str or None
        Answer of the classifier that was shown at that moment, if one was.
    order : str or None
        The order of images from which this one was chosen.
    """

    answer: str | int
    when: str
    number: int
    shown: str | None
    order: str | None


class _Change(NamedTuple):
    before: dict[int, Label | None]
    after: dict[int, Label | None]
    typed_before: dict[str, bool]
    typed_after: dict[str, bool]


class LabelState:
    """Labels and classes, as the result of actions.

    Parameters
    ----------
    classes : iterable of str, default=()
        Classes that exist without any action.

    Attributes
    ----------
    labels : dict of int to Label
        Labels by position of the image; images without a label are not in it.
    """

    def __init__(self, classes: Iterable[str] = ()) -> None:
        self.labels: dict[int, Label] = {}
        self._counts: Counter[str | int] = Counter()
        self._given = list(dict.fromkeys(classes))
        # Classes that were added by name, and whether they stay when no image has them.
        self._typed: dict[str, bool] = {}
        self._done: list[_Change] = []
        self._undone: list[_Change] = []

    @property
    def class_names(self) -> list[str]:
        """Names of the classes: given ones first, others in the order in which they were added."""
        return [*self._given, *(name for name in self._typed if name not in self._given)]

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an action to redo."""
        return bool(self._undone)

    def give_classes(self, names: Iterable[str]) -> None:
        """Add classes that undo does not remove."""
        self._given += [name for name in dict.fromkeys(names) if name not in self._given]

    def label(
        self,
        images: Iterable[tuple[int, str | None]],
        answer: str | int,
        *,
        when: str,
        order: str | None = None,
    ) -> None:
        """Give a label to images, each with the answer that was shown, or take it away."""
        after: dict[int, Label | None] = {}
        for i, shown in images:
            former = self.labels.get(i)
            if answer == UNLABELLED:
                after[i] = None
            elif former is None:
                after[i] = Label(answer, when, len(self._done), shown, order)
            else:  # the classifier had learned from it: what it answers now is not news
                after[i] = former._replace(answer=answer, when=when)
        before = {i: self.labels.get(i) for i in after}
        typed = self._typed
        if isinstance(answer, str) and answer not in self.class_names:
            typed = typed | {answer: False}
        lost = Counter(label.answer for label in before.values() if label is not None)
        lost.subtract(label.answer for label in after.values() if label is not None)
        gone = {name for name, n in lost.items() if n > 0 and n == self._counts[name]}
        if any(typed.get(str(name)) is False for name in gone):
            typed = {name: stays for name, stays in typed.items() if stays or name not in gone}
        self._do(_Change(before, after, self._typed, typed))

    def add_class(self, name: str) -> None:
        """Add a class that stays when no image has it."""
        self._do(_Change({}, {}, self._typed, self._typed | {name: True}))

    def undo(self) -> list[int] | None:
        """Undo the last action; returns the images that it labelled, or None if there is none."""
        if not self._done:
            return None
        change = self._done.pop()
        self._undone.append(change)
        self._apply(change.before, change.typed_before)
        return list(change.before)

    def redo(self) -> list[int] | None:
        """Redo the last action that was undone; see :meth:`undo`."""
        if not self._undone:
            return None
        change = self._undone.pop()
        self._done.append(change)
        self._apply(change.after, change.typed_after)
        return list(change.after)

    def _do(self, change):
        self._done.append(change)
        self._undone.clear()
        self._apply(change.after, change.typed_after)

    def _apply(self, labels, typed):
        self._typed = typed
        for i, label in labels.items():
            former = self.labels.pop(i, None)
            if former is not None:
                self._counts[former.answer] -= 1
            if label is not None:
                self.labels[i] = label
                self._counts[label.answer] += 1


def checked_name(name: Any, class_names: Iterable[str]) -> str:
    """Check the name of a class, which may be new, and return it in Unicode normal form C.

    Parameters
    ----------
    name : str
    class_names : iterable of str
        The classes so far.

    Returns
    -------
    name : str

    Raises
    ------
    TypeError, ValueError
        If the name is not a string, is blank or too long, has characters that are not printable,
        begins like a formula of a spreadsheet, or reads like another class.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of a class must be a string, got {name!r}.")
    name = normalize("NFC", name).strip()
    names = list(class_names)
    if name in names:
        return name
    if not words(name):
        raise ValueError("The name of a class must not be blank.")
    if len(name) > MAX_NAME:
        raise ValueError(
            f"The name of a class may have at most {MAX_NAME} characters, got {len(name)}."
        )
    if not name.isprintable():
        raise ValueError(f"The name {name!r} has characters that cannot be printed.")
    if name.startswith(FORMULA):
        raise ValueError(
            f"The name {name!r} begins with {name[0]!r}, which a spreadsheet reads as a formula. "
            "Choose another name."
        )
    read = _as_read(name)
    for other in names:
        if _as_read(other) == read:
            raise ValueError(f"The class {other!r} exists already; {name!r} reads the same.")
    return name


def _as_read(name):
    return normalize("NFC", words(name).casefold())
