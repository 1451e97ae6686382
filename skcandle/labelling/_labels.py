"""Labels of images, the classes that they name, and undo: the result of actions in a journal."""

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np

from ..classifier._text_features import words
from ..inspection._csv import FORMULA
from ._journal import Journal

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


class Snapshot(NamedTuple):
    """Labels and classes at one moment.

    Parameters
    ----------
    version : int
        Grows with every change of labels or classes.
    class_names : list of str
        Given ones first, others in the order in which they were added.
    lasting_names : list of str
        Those that stay when no image has them.
    codes : ndarray of shape (n_images,) of int
        Label of each image: the position of its class, UNLABELLED, NONE or SKIP.
    labels : list of (int, Label)
        Images with a label, in the order in which they got their first one.
    can_undo, can_redo : bool
    """

    version: int
    class_names: list[str]
    lasting_names: list[str]
    codes: np.ndarray
    labels: list[tuple[int, Label]]
    can_undo: bool
    can_redo: bool

    @property
    def with_class(self) -> list[tuple[int, str]]:
        """Image and class of each image that has one, in order."""
        return [(i, label.answer) for i, label in self.labels if isinstance(label.answer, str)]


class _Change(NamedTuple):
    """Labels and added classes, each before and after an action."""

    labels: dict[int, tuple[Label | None, Label | None]]
    added: tuple[dict[str, bool], dict[str, bool]]


class Labels:
    """The labels of images. Every change is stored before it counts. Threads may share it.

    Parameters
    ----------
    names : list of str
        A unique name for each image, by which the journal refers to it.
    classes : list of str
        Classes that exist without any action.
    journal : Journal or None
        With None, actions are only in memory.

    Attributes
    ----------
    tables : set of str
        Digests of the tables that were written.
    """

    def __init__(
        self, names: Sequence[str], classes: Iterable[str] = (), journal: Journal | None = None
    ) -> None:
        self.tables: set[str] = set()
        self._names = names
        self._positions = {name: i for i, name in enumerate(names)}
        self._given = list(dict.fromkeys(classes))
        # Classes that were added by name, and whether they stay when no image has them.
        self._added: dict[str, bool] = {}
        self._labels: dict[int, Label] = {}
        self._done: list[_Change] = []
        self._undone: list[_Change] = []
        self._version = 0
        self._snapshot: Snapshot | None = None
        self._journal = journal
        self._lock = threading.RLock()  # never held for long
        if journal is not None:
            self._replay(journal)

    def snapshot(self) -> Snapshot:
        """Labels and classes as they are now."""
        with self._lock:
            if self._snapshot is None:
                names = self._class_names()
                position: dict[Any, int] = {name: k for k, name in enumerate(names)}
                position |= {NONE: NONE, SKIP: SKIP}
                codes = np.full(len(self._names), UNLABELLED)
                for i, label in self._labels.items():
                    codes[i] = position[label.answer]
                labels = sorted(self._labels.items(), key=lambda item: (item[1].number, item[0]))
                lasting = [name for name in names if self._added.get(name) is not False]
                undo, redo = bool(self._done), bool(self._undone)
                self._snapshot = Snapshot(self._version, names, lasting, codes, labels, undo, redo)
            return self._snapshot

    def label(
        self,
        images: Sequence[int],
        answers: Sequence[str | int],
        shown: Sequence[str | None] | None = None,
        order: str | None = None,
    ) -> None:
        """Label images, each with its answer; see :meth:`LabellingSession.label`."""
        with self._lock:
            names = self._class_names()
            checked: list[str | int] = []
            for answer in answers:
                if isinstance(answer, str) or answer not in (NONE, SKIP, UNLABELLED):
                    answer = checked_name(answer, names)
                    names += [answer] if answer not in names else []
                checked.append(answer)
            action: dict[str, Any] = {"do": "label", "images": [self._names[i] for i in images]}
            action |= {"answers": checked, "when": now()}
            if shown is not None:
                action |= {"shown": list(shown), "order": order}
            self._do(action)

    def add_class(self, name: str) -> None:
        """Add a class that stays when no image has it."""
        with self._lock:
            names = self._class_names()
            name = checked_name(name, names)
            if name not in names:
                self._do({"do": "class", "class": name})

    def give_classes(self, names: Iterable[str]) -> None:
        """Add classes that undo does not remove."""
        with self._lock:
            known = self._class_names()
            n_known = len(known)
            for name in names:
                name = checked_name(name, known)
                known += [name] if name not in known else []
            if known[n_known:]:
                self._do({"do": "classes", "classes": known[n_known:]})

    def undo(self) -> list[int] | None:
        """Undo the last action; returns the images that it labelled, or None if there is none."""
        with self._lock:
            return self._do({"do": "undo"}) if self._done else None

    def redo(self) -> list[int] | None:
        """Redo the last action that was undone; see :meth:`undo`."""
        with self._lock:
            return self._do({"do": "redo"}) if self._undone else None

    def remember_table(self, digest: str) -> None:
        """Store the digest of a table that will be written."""
        with self._lock:
            self._do({"do": "table", "digest": digest})

    def _class_names(self):
        return [*self._given, *(name for name in self._added if name not in self._given)]

    def _replay(self, journal):
        for line, action in enumerate(journal.actions, 2):
            try:
                self._apply(action)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise journal.damaged(line) from error

    def _do(self, action):
        if self._journal is not None:
            self._journal.append(action)
        return self._apply(action)

    def _apply(self, action):
        """Change labels and classes. All changes come from here, new and replayed ones."""
        do = action["do"]
        if do == "table":
            self.tables.add(action["digest"])
            return None
        self._version, self._snapshot = self._version + 1, None
        if do == "undo":
            self._undone.append(self._done.pop())
            return self._switch(self._undone[-1], 0)
        if do == "redo":
            self._done.append(self._undone.pop())
            return self._switch(self._done[-1], 1)
        if do == "classes":
            self._given += [name for name in action["classes"] if name not in self._given]
            return None
        if do == "class":
            change = _Change({}, (self._added, self._added | {action["class"]: True}))
        elif do == "label":
            change = self._labelling(**action)
        else:
            raise ValueError(do)
        self._done.append(change)
        self._undone.clear()
        return self._switch(change, 1)

    def _labelling(self, images, answers, when, shown=None, order=None, **_):
        """The change by a label for each of some images."""
        changed, added, names = {}, self._added, set(self._class_names())
        for name, answer, seen in zip(images, answers, shown or [None] * len(images), strict=True):
            i = self._positions.get(name)
            if i is None:  # the file is gone
                continue
            former, label = self._labels.get(i), None
            if former is not None and answer != UNLABELLED:
                # the classifier had learned from it: what it answers now is not news
                label = former._replace(answer=answer, when=when)
            elif answer != UNLABELLED:
                label = Label(answer, when, len(self._done), seen, order)
            changed[i] = former, label
            if isinstance(answer, str) and answer not in names:
                names.add(answer)
                added = added | {answer: False}
        lost = {former.answer for former, _ in changed.values() if former is not None}
        lost &= {name for name, stays in added.items() if not stays}
        if lost:
            lost -= {label.answer for _, label in changed.values() if label is not None}
            lost -= {label.answer for i, label in self._labels.items() if i not in changed}
            added = {name: stays for name, stays in added.items() if name not in lost}
        return _Change(changed, (self._added, added))

    def _switch(self, change, side):
        """Make the state that of one side of a change; returns the images whose label changed."""
        self._added = change.added[side]
        for i, sides in change.labels.items():
            self._labels.pop(i, None)
            label = sides[side]
            if label is not None:
                self._labels[i] = label
        return list(change.labels)


def now() -> str:
    """The present time, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


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
