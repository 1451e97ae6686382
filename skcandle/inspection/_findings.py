"""What a report finds among the predictions; how it looks is in other modules."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import recall_score

from ..metrics import shot_band_accuracy
from ._duplicates import near_duplicates
from ._label_errors import has_cleanlab, likely_label_errors

IDENTICAL = 1 - 1e-6
N_CONFUSIONS = 12
# The similarity of a group is computed among this many of its images; the others are alike.
N_COMPARED = 500


class ClassRow(NamedTuple):
    """One class: its number of training images, and its results here."""

    label: object
    is_new: bool
    n_train: float | None
    n_images: int | None
    n_answers: int
    recall: float | None
    mistaken_for: object | None


class Confusion(NamedTuple):
    """Images of one class that are predicted as another."""

    label: object
    answer: object
    n_lost: int
    n_images: int
    n_reverse: int
    rows: np.ndarray


class DuplicateGroup(NamedTuple):
    """A group of near-duplicate images, and their labels."""

    rows: np.ndarray
    labels: list
    similarity: float

    @property
    def is_identical(self):
        """Whether the model cannot distinguish them."""
        return self.similarity >= IDENTICAL


@dataclass(frozen=True)
class Findings:
    """All sections of a report; rows are those of the :class:`Answers`.

    Without labels, findings that need them are None.

    Attributes
    ----------
    classes : list of ClassRow
    accuracy, zero_shot_accuracy : float or None
        Class-balanced.
    bands : list of (str, float, float or None) or None
        Number of training images, accuracy, and accuracy of zero-shot CLIP.
    unknown_labels : list
        Given labels that are not classes of the classifier.
    confusions : list of Confusion or None
        Those with two or more images, the most frequent first; up to `N_CONFUSIONS`.
    errors : ndarray of int or None
        Rows of wrong predictions, the most confident first.
    label_errors : ndarray of int or None
        Rows of likely label errors; also None if cleanlab is not installed.
    has_cleanlab : bool
    uncertain : ndarray of int
        All rows, the least certain first.
    duplicates : list of DuplicateGroup
        Those with several labels first, then the most similar.
    novel : ndarray of int
        All rows, the most novel first.
    """

    classes: list
    accuracy: float | None
    zero_shot_accuracy: float | None
    bands: list | None
    unknown_labels: list
    confusions: list | None
    errors: np.ndarray | None
    label_errors: np.ndarray | None
    has_cleanlab: bool
    uncertain: np.ndarray
    duplicates: list
    novel: np.ndarray


def find(answers, class_count, duplicate_similarity):
    """Find what is worth a look.

    Parameters
    ----------
    answers : Answers
    class_count : ndarray of shape (n_classes,) or None
        Training images of each class.
    duplicate_similarity : float
        Minimum cosine of near-duplicates.

    Returns
    -------
    findings : Findings
    """
    y, y_pred, confidence = answers.y, answers.y_pred, answers.confidence
    labelled = {"label_errors": None, "has_cleanlab": has_cleanlab()}
    if y is None:
        labelled |= dict.fromkeys(
            ["accuracy", "zero_shot_accuracy", "bands", "confusions", "errors"]
        ) | {"unknown_labels": []}
    else:
        wrong = np.flatnonzero(y_pred != y)
        labelled |= {
            "accuracy": _balanced_accuracy(y, y_pred),
            "zero_shot_accuracy": _balanced_accuracy(y, answers.zero_shot),
            "bands": _bands(answers, class_count),
            "unknown_labels": np.setdiff1d(y, answers.classes).tolist(),
            "confusions": _confusions(y, y_pred, confidence),
            "errors": wrong[np.argsort(-confidence[wrong], kind="stable")],
        }
        if labelled["has_cleanlab"]:
            columns = {label: column for column, label in enumerate(answers.classes.tolist())}
            given = np.array([columns.get(label, -1) for label in y.tolist()])
            labelled["label_errors"] = likely_label_errors(given, answers.y_proba)
    return Findings(
        classes=_class_rows(answers, class_count),
        uncertain=np.argsort(confidence, kind="stable"),
        duplicates=_duplicate_groups(answers.X, y, duplicate_similarity),
        novel=np.argsort(-answers.novelty, kind="stable"),
        **labelled,
    )


def _balanced_accuracy(y, y_pred):
    if y_pred is None:
        return None
    return float(recall_score(y, y_pred, labels=np.unique(y), average="macro", zero_division=0))


def _bands(answers, class_count):
    if class_count is None:
        return None
    y_train = np.repeat(answers.classes, np.ceil(class_count).astype(int))

    def accuracy(y_pred):
        return shot_band_accuracy(answers.y, y_pred, y_train=y_train)

    ours = accuracy(answers.y_pred)
    zero_shot = {} if answers.zero_shot is None else accuracy(answers.zero_shot)
    return [
        (name, value, zero_shot.get(name)) for name, value in ours.items() if not np.isnan(value)
    ]


def _class_rows(answers, class_count):
    """Classes from many training images to none; among equals, the lowest recall first."""
    y, y_pred, classes = answers.y, answers.y_pred, answers.classes
    n_answers = dict(zip(*_counted(y_pred), strict=True))
    n_images: dict[Any, int] = {}
    recall: dict[Any, float] = {}
    mistaken: dict[Any, tuple[int, Any]] = {}
    if y is not None:
        n_images = dict(zip(*_counted(y), strict=True))
        labels = np.unique(y)
        recalls = recall_score(y, y_pred, labels=labels, average=None, zero_division=0)
        recall = dict(zip(labels.tolist(), recalls.tolist(), strict=True))
        for (label, answer), n in _pairs(y, y_pred):
            if n > mistaken.get(label, (0, None))[0]:
                mistaken[label] = n, answer
    rows = []
    for column, label in enumerate(classes.tolist()):
        n_train = None if class_count is None else float(class_count[column])
        rows.append(
            ClassRow(
                label,
                n_train == 0,
                n_train,
                None if y is None else n_images.get(label, 0),
                n_answers.get(label, 0),
                recall.get(label),
                mistaken.get(label, (0, None))[1],
            )
        )

    def order(row):
        frequency = row.n_train if row.n_train is not None else row.n_images or row.n_answers
        return -frequency, 2.0 if row.recall is None else row.recall

    return sorted(rows, key=order)


def _confusions(y, y_pred, confidence):
    counts = dict(zip(*_counted(y), strict=True))
    pairs = dict(_pairs(y, y_pred))
    repeated = [pair for pair in pairs.items() if pair[1] > 1]
    most = sorted(repeated, key=lambda pair: (-pair[1], -pair[1] / counts[pair[0][0]]))
    found = []
    for (label, answer), n_lost in most[:N_CONFUSIONS]:
        rows = np.flatnonzero((y == label) & (y_pred == answer))
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        reverse = pairs.get((answer, label), 0)
        found.append(Confusion(label, answer, n_lost, counts[label], reverse, rows))
    return found


def _pairs(y, y_pred):
    """Pairs of a label and a wrong prediction, with their counts."""
    pairs = Counter(zip(y.tolist(), y_pred.tolist(), strict=True))
    return [(pair, n) for pair, n in pairs.items() if pair[0] != pair[1]]


def _duplicate_groups(X, y, similarity):
    groups = []
    for rows in near_duplicates(X, similarity):
        # the lowest similarity of an image to its nearest neighbour in the group
        compared = X[rows[:N_COMPARED]]
        cosines = compared @ compared.T
        np.fill_diagonal(cosines, -1)
        labels = [] if y is None else np.unique(y[rows]).tolist()
        groups.append(DuplicateGroup(rows, labels, float(cosines.max(axis=1).min())))
    return sorted(groups, key=lambda group: (-len(group.labels), -group.similarity))


def _counted(labels):
    values, counts = np.unique(labels, return_counts=True)
    return values.tolist(), counts.tolist()
