"""Labels and classes whose every change is stored before it counts."""

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from ._journal import Journal
from ._state import NONE, SKIP, UNLABELLED, Label, LabelState, checked_name

WITHOUT_CLASS = {NONE: "none", SKIP: "skip", UNLABELLED: "unlabel"}  # actions in the journal
ANSWERS = {action: answer for answer, action in WITHOUT_CLASS.items()}


class StoredLabels:
    """The labels of images, as the result of the actions in a journal. Several threads may use it.

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
    version : int
        Grows with every change of labels or classes.
    tables : set of str
        Digests of the tables that were written.
    """

    def __init__(
        self, names: Sequence[str], classes: Iterable[str] = (), journal: Journal | None = None
    ) -> None:
        self.version = 0
        self.tables: set[str] = set()
        self._names = names
        self._positions = {name: i for i, name in enumerate(names)}
        self._state = LabelState(classes)
        self._journal = journal
        self._lock = threading.RLock()  # never held for long
        if journal is not None:
            self._replay(journal)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        with self._lock:
            return self._state.class_names

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to undo."""
        return self._state.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an action to redo."""
        return self._state.can_redo

    def array(self) -> np.ndarray:
        """Label of each image, of shape (n_images,): the position of its class, or below zero."""
        labels = np.full(len(self._names), UNLABELLED)
        with self._lock:
            codes: dict[Any, int] = {name: i for i, name in enumerate(self._state.class_names)}
            codes |= {NONE: NONE, SKIP: SKIP}
            for i, label in self._state.labels.items():
                labels[i] = codes[label.answer]
        return labels

    def in_order(self) -> list[tuple[int, Label]]:
        """Image and label, in the order in which images got their first label."""
        with self._lock:
            labels = list(self._state.labels.items())
        return sorted(labels, key=lambda item: (item[1].number, item[0]))

    def snapshot(self) -> tuple[int, list[str], list[tuple[int, str]]]:
        """The version, the class names, and each image with a class, in order."""
        with self._lock:
            labelled = [
                (i, label.answer) for i, label in self.in_order() if isinstance(label.answer, str)
            ]
            return self.version, self._state.class_names, labelled

    def label(
        self,
        images: Sequence[int],
        answer: str | int,
        shown: Sequence[str | None] | None,
        order: str | None,
    ) -> None:
        """Label images; see :meth:`LabellingSession.label`."""
        with self._lock:
            action: dict[str, Any]
            if not isinstance(answer, str) and answer in WITHOUT_CLASS:
                action = {"do": WITHOUT_CLASS[answer]}
            else:
                action = {"do": "label", "class": checked_name(answer, self._state.class_names)}
            action |= {"images": [self._names[i] for i in images], "when": now()}
            if shown is not None:
                action |= {"shown": list(shown), "order": order}
            self._do(action)

    def add_class(self, name: str) -> None:
        """Add a class that stays when no image has it."""
        with self._lock:
            names = self._state.class_names
            name = checked_name(name, names)
            if name not in names:
                self._do({"do": "class", "class": name})

    def give_classes(self, names: Iterable[str]) -> None:
        """Add classes that undo does not remove."""
        with self._lock:
            known = self._state.class_names
            new: list[str] = []
            for name in names:
                name = checked_name(name, [*known, *new])
                if name not in [*known, *new]:
                    new.append(name)
            if new:
                self._do({"do": "classes", "classes": new})

    def undo(self) -> list[int] | None:
        """Undo the last action; returns the images that it labelled, or None if there is none."""
        with self._lock:
            return self._do({"do": "undo"}) if self._state.can_undo else None

    def redo(self) -> list[int] | None:
        """Redo the last action that was undone; see :meth:`undo`."""
        with self._lock:
            return self._do({"do": "redo"}) if self._state.can_redo else None

    def remember_table(self, digest: str) -> None:
        """Store the digest of a table that will be written."""
        with self._lock:
            self._do({"do": "table", "digest": digest})

    def _replay(self, journal):
        for line, action in enumerate(journal.actions, 2):
            try:
                self._apply(action)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise journal.damaged(line) from error

    def _do(self, action):
        if self._journal is not None:
            self._journal.append(action)
        return self._apply(action)

    def _apply(self, action):
        """Change labels and classes. All changes come from here, new and replayed ones."""
        do, state = action["do"], self._state
        self.version += do != "table"
        if do == "undo":
            return state.undo()
        if do == "redo":
            return state.redo()
        if do == "table":
            self.tables.add(action["digest"])
        elif do == "classes":
            state.give_classes(action["classes"])
        elif do == "class":
            state.add_class(action["class"])
        else:
            answer = action["class"] if do == "label" else ANSWERS[do]
            shown = action.get("shown") or [None] * len(action["images"])
            present = [  # files that are gone have no position
                (self._positions[name], one)
                for name, one in zip(action["images"], shown, strict=True)
                if name in self._positions
            ]
            state.label(present, answer, when=action["when"], order=action.get("order"))
        return None


def now():
    """The present time, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
