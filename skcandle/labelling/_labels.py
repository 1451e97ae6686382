"""Labels of images, the classes that they name, and undo: the result of actions in a journal."""

import threading
from collections.abc import Callable, Iterable, Sequence
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
    """What a person said about an image."""

    answer: str | int  # name of a class, NONE or SKIP
    when: str  # ISO 8601
    number: int  # of the action that gave the image its first label
    shown: str | None  # answer of the classifier that was shown at that moment
    order: str | None  # the order of images from which this one was chosen


class Snapshot(NamedTuple):
    """Labels and classes at one moment."""

    version: int  # grows with every change
    class_names: list[str]  # given ones first, others in the order in which they were first added
    lasting_names: list[str]  # those that stay when no image has them
    codes: np.ndarray  # of shape (n_images,): position of a class, UNLABELLED, NONE or SKIP
    labels: list[tuple[int, Label]]  # images with a label, in the order of their first ones
    can_undo: bool
    can_redo: bool

    @property
    def with_class(self) -> list[tuple[int, str]]:
        """Image and class of each image that has one, in order."""
        return [(i, label.answer) for i, label in self.labels if isinstance(label.answer, str)]


class Labels:
    """The labels of images. Every change is stored before it counts. Threads may share it.

    Parameters
    ----------
    names : list of str
        A unique name for each image, by which the journal refers to it.
    classes : list of str
        Classes that exist without any action.
    journal : Journal, default=None
        With None, actions are only in memory.
    check : callable
        Called with new names of classes before they are stored; may raise an error.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: Iterable[str] = (),
        journal: Journal | None = None,
        check: Callable = lambda names: None,
    ) -> None:
        self.tables: set[str] = set()  # digests of the tables that were written
        self._names = names
        self._positions = {name: i for i, name in enumerate(names)}
        self._given = dict.fromkeys(classes)
        self._added: set[str] = set()  # classes that stay without an image until they are undone
        self._seen: dict[str, None] = {}  # all classes that were ever added, in order
        self._labels: dict[int, Label] = {}
        self._done: list[tuple] = []
        self._undone: list[tuple] = []
        self._version = 0
        self._journal, self._check = journal, check
        self._lock = threading.RLock()
        if journal is not None:
            self._replay(journal)
        self._snapshot = self._present()

    def snapshot(self) -> Snapshot:
        """Labels and classes as they are now."""
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
            action: dict[str, Any] = {"do": "label", "images": [self._names[i] for i in images]}
            action |= {"answers": self._checked(answers, (NONE, SKIP, UNLABELLED)), "when": now()}
            if shown is not None:
                action |= {"shown": list(shown), "order": order}
            self._do(action)

    def add_class(self, name: str) -> None:
        """Add a class that stays when no image has it."""
        with self._lock:
            (name,) = self._checked([name])
            if name not in self._snapshot.class_names:
                self._do({"do": "class", "class": name})

    def give_classes(self, names: Iterable[str]) -> None:
        """Add classes that undo does not remove."""
        with self._lock:
            known = self._snapshot.class_names
            new = [name for name in dict.fromkeys(self._checked(names)) if name not in known]
            if new:
                self._do({"do": "classes", "classes": new})

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

    def _checked(self, answers, others=()):
        """Answers with names as they are stored; an error if one of them cannot be a class."""
        names, checked = self._snapshot.class_names.copy(), []
        n_known = len(names)
        for answer in answers:
            if isinstance(answer, str) or answer not in others:
                answer = checked_name(answer, names)
                names += [answer] if answer not in names else []
            checked.append(answer)
        self._check(names[n_known:])
        return checked

    def _replay(self, journal):
        for line, action in enumerate(journal.actions, 2):
            try:
                self._apply(action)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise journal.damaged(line) from error

    def _do(self, action):
        if self._journal is not None:
            self._journal.append(action)
        changed = self._apply(action)
        if self._version != self._snapshot.version:
            self._snapshot = self._present()
        return changed

    def _apply(self, action):
        """Change labels and classes. All changes come from here, new and replayed ones."""
        do = action["do"]
        if do == "table":
            self.tables.add(action["digest"])
            return None
        self._version += 1
        if do == "classes":
            self._given |= dict.fromkeys(action["classes"])
            return None
        if do == "undo":
            return self._exchange(self._done, self._undone)
        if do == "redo":
            return self._exchange(self._undone, self._done)
        if do == "class":
            self._seen[action["class"]] = None
            change: tuple = {}, {action["class"]}
        elif do == "label":
            change = self._labelling(**action), set()
        else:
            raise ValueError(do)
        self._undone[:] = [change]
        return self._exchange(self._undone, self._done)

    def _exchange(self, source, target):
        """Put the last change of a list into effect, which leaves its inverse on another list."""
        labels, added = source.pop()
        target.append((labels, added))
        self._added ^= added
        for i, label in labels.items():
            labels[i] = self._labels.pop(i, None)
            if label is not None:
                self._labels[i] = label
        return list(labels)

    def _labelling(self, images, answers, when, shown=None, order=None, **_):
        """The new label of each image, or None."""
        labels: dict[int, Label | None] = {}
        for name, answer, seen in zip(images, answers, shown or [None] * len(images), strict=True):
            i = self._positions.get(name)
            if i is None:  # the file is gone
                continue
            former = self._labels.get(i)
            if answer == UNLABELLED:
                labels[i] = None
            elif former is None:
                labels[i] = Label(answer, when, len(self._done), seen, order)
            else:  # the classifier had learned from it: what it answers now is not news
                labels[i] = former._replace(answer=answer, when=when)
            if isinstance(answer, str):
                self._seen[answer] = None
        return labels

    def _present(self):
        labels = sorted(self._labels.items(), key=lambda item: (item[1].number, item[0]))
        used = {label.answer for _, label in labels}.union(self._added)
        others = [name for name in self._seen if name in used and name not in self._given]
        names = [*self._given, *others]
        lasting = [*self._given, *(name for name in others if name in self._added)]
        position: dict[Any, int] = {name: k for k, name in enumerate(names)}
        position |= {NONE: NONE, SKIP: SKIP}
        codes = np.full(len(self._names), UNLABELLED)
        for i, label in labels:
            codes[i] = position[label.answer]
        undo, redo = bool(self._done), bool(self._undone)
        return Snapshot(self._version, names, lasting, codes, labels, undo, redo)


def now() -> str:
    """The present time, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def checked_name(name: Any, class_names: Iterable[str]) -> str:
    """The name of a class, new or one of `class_names`, in Unicode normal form C.

    Raises
    ------
    TypeError, ValueError
        If the name is not a string, is blank or too long, has characters that are not printable,
        begins like a formula of a spreadsheet, or reads like another class.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of a class must be a string, got {name!r}.")
    name = normalize("NFC", name).strip()
    if name in class_names:
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
    for other in class_names:
        if _as_read(other) == _as_read(name):
            raise ValueError(f"The class {other!r} exists already; {name!r} reads the same.")
    return name


def _as_read(name):
    return normalize("NFC", words(name).casefold())
