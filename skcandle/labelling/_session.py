"""The labelling loop without a page."""

import hashlib
import threading
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .. import _files
from .._image_files import check_folder
from .._typing import Path as PathLike
from ..classifier import CandleClassifier
from ..classifier._embeddings import unit
from ..cli._sorting import sort_into
from ..clip import CLIPFeaturizer
from ..hub._model_files import fitted_candle, to_bytes
from ..pipeline import CandlePipeline
from ._answers import N_UNLABELED, Answers, Learner, answers_of
from ._journal import Journal
from ._labels import NONE, SKIP, UNLABELLED, Labels, Snapshot, now
from ._progress import Progress, progress_of
from ._table import MODEL, PERSON, labels_in_table, path_in_table, readable_images, table_text

BY = ("help", "doubt", "class", "none", "random", "image", "words", "labelled")
SHORTLIST = 500  # images that are scored again before some of them are chosen


class _Folder(NamedTuple):
    """What only a session of a folder has."""

    output: Path
    clip: CLIPFeaturizer
    contents: np.ndarray


class LabellingSession:
    """Label images with a classifier that learns from every label.

    The session holds the images, their embeddings, the labels, and a classifier that follows from
    them. It begins with any number of classes, or none. A new name makes a new class at once, and
    every label changes the answers for all images. :meth:`open` starts a session for a folder; the
    constructor takes embeddings.

    All methods may be called from several threads. Slow ones, such as `answers` and `save_model`,
    do not keep others waiting.

    Parameters
    ----------
    images : list
        Paths, or images of any kind; they are not opened here.
    X : array-like of shape (n_images, n_features)
        CLIP embeddings of the images, of any length.
    classes : list of str, default=()
        Names of classes to begin with. Undo does not remove them.
    text_encoder : CLIPFeaturizer, callable or mapping
        Embeds the names of classes, see :class:`skcandle.CandleClassifier`. With a mapping to
        vectors, only its names can become classes, and there is no search by words.
    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}`` for the name of the class.
    classifier : CandleClassifier, default=None
        A fitted classifier, whose labels are strings, from which the labelling starts.
    names : list of str, default=None
        A unique name for each image, which the journal uses; by default, the numbers of the images.
    journal : Journal, default=None
        Where actions are stored. With None they are only in memory.

    Attributes
    ----------
    images : list
        The images, without those that cannot be read.
    names : list of str
        Name of each image: after :meth:`open`, its path below the folder, with "/".
    n_images : int
        Number of images.
    problems : list of (str, str)
        Path of each image that cannot be used, and the reason; they are not in `images`.
    NONE, SKIP, UNLABELLED : int
        The answers "none of these" and "skip", and the absence of a label.

    See Also
    --------
    skcandle.CandleClassifier.choose_to_label : Chooses the images whose labels would help most.

    Notes
    -----
    The answers are those of a :class:`~skcandle.CandleClassifier` with fixed weights of the logits,
    which learns in closed form from names and labels. It also learns from 500 images without labels
    (:meth:`~skcandle.CandleClassifier.add_unlabeled`), as long as there are less than four labels
    per class, and unless most classes came with a label: unlabelled images may then be of classes
    that have no name yet. Up to rounding errors, the classifier depends only on the classes and the
    labels, so that undo returns to the answers before. Its probabilities are not calibrated;
    :meth:`fit` estimates the weights.

    Examples
    --------
    >>> from skcandle import CLIPFeaturizer
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.labelling import LabellingSession
    >>> emoji, clip = load_emoji(styles="twemoji"), CLIPFeaturizer("emoji-clip")
    >>> session = LabellingSession(
    ...     emoji.images, clip.fit_transform(emoji.images), text_encoder=clip
    ... )
    >>> lemon, *_ = session.next(3, "words", words="a photo of a lemon.")
    >>> session.label([lemon], "lemon")
    >>> session.add_class("strawberry")
    >>> session.class_names
    ['lemon', 'strawberry']
    >>> session.undo(), session.class_names
    ([], ['lemon'])
    """

    NONE, SKIP, UNLABELLED = NONE, SKIP, UNLABELLED

    def __init__(
        self,
        images: Sequence[Any],
        X: ArrayLike,
        *,
        classes: Sequence[str] = (),
        text_encoder: Any,
        templates: str | Sequence[str] = "a photo of a {}.",
        classifier: CandleClassifier | None = None,
        names: Sequence[str] | None = None,
        journal: Journal | None = None,
    ) -> None:
        X = np.asarray(X)
        if X.ndim != 2 or len(X) != len(images) or not len(X):
            raise ValueError(
                f"X must have one row per image, {len(images)} rows, got the shape {X.shape}."
            )
        if not np.isfinite(X).all():
            raise ValueError("X must not contain NaN or infinity. Leave unreadable images out.")
        if classifier is not None and classifier.text_features_ is None:
            raise ValueError("A classifier to start from must have been fitted with text.")
        self.images = list(images)
        self.names = [str(i) for i in range(len(X))] if names is None else list(names)
        self.n_images = len(X)
        self.problems: list[tuple[str, str]] = []
        self._X = unit(X.astype(np.float32, copy=False))
        self._random_order = np.random.default_rng(0).permutation(self.n_images)
        sample = self._random_order[:N_UNLABELED]
        self._learner = Learner(self._X, text_encoder, templates, classifier, sample)
        given = [] if classifier is None else classifier.classes_.tolist()
        self._journal = journal
        self._labels = Labels(self.names, given, journal, self._learner.text_features)
        self._labels.give_classes(classes)
        self._fitting, self._answering = threading.Lock(), threading.Lock()
        self._fitted: Any = (None, None)  # a snapshot, and what follows from it
        self._answered: Any = (None, None)
        self._folder: _Folder | None = None

    @classmethod
    def open(
        cls,
        folder: PathLike,
        output: PathLike = "labels.csv",
        *,
        classes: Sequence[str] = (),
        model: str | CLIPFeaturizer | Pipeline = "ViT-B-16-quickgelu",
        templates: str | Sequence[str] = "a photo of a {}.",
    ) -> "LabellingSession":
        """Start or continue labelling a folder.

        Images that are not in the cache are encoded. Labels of former sessions come from the
        journal, a file beside `output` with the suffix ``.journal.jsonl``; every action is stored
        in it before it counts. The images and their folder are only read.

        Parameters
        ----------
        folder : str or path-like
            Images at any depth.
        output : str or path-like, default="labels.csv"
            Table that :meth:`to_csv` and :meth:`close` write. If it was changed by hand since this
            class wrote it, the labels of persons in it are taken over.
        classes : list of str, default=()
            Names of classes to begin with.
        model : str, CLIPFeaturizer or Pipeline, default="ViT-B-16-quickgelu"
            Name of a CLIP model, a featurizer, which may have a cache, or a fitted pipeline from
            :func:`skcandle.make_candle_pipeline` whose labels are strings.
        templates : str or list of str, default="a photo of a {}."
            Prompt templates, unless `model` is a pipeline.

        Returns
        -------
        session : LabellingSession
            Close it, or use it in a ``with`` statement.

        Raises
        ------
        BlockingIOError
            If another process labels the folder.
        ValueError
            If the folder contains no image that can be read, `output` is another table, or the
            journal is of another folder, of a newer version or damaged.
        OSError
            If a file or folder does not exist or cannot be written.
        """
        folder, output = Path(folder), Path(output)
        check_folder(folder)
        if output.suffix.lower() != ".csv":
            raise ValueError(f"The output must be a .csv file, got {str(output)!r}.")
        _files.check_output(output, overwrite=True)
        journal = Journal(output.with_suffix(".journal.jsonl"), folder)
        try:
            clip, start = _clip_and_classifier(model)
            files, X, contents, problems = readable_images(folder, clip)
            session = cls(
                files,
                X,
                classes=classes,
                text_encoder=clone(clip) if start is None else start.text_encoder,
                templates=templates,
                classifier=start,
                names=[Path(file).relative_to(folder).as_posix() for file in files],
                journal=journal,
            )
            session.problems = problems
            session._folder = _Folder(output, clip, contents)
            session._take_over_table(output)
            return session
        except BaseException:
            journal.close()
            raise

    @property
    def version(self) -> int:
        """A number that grows with every change of labels or classes."""
        return self._labels.snapshot().version

    @property
    def class_names(self) -> list[str]:
        """Names of the classes: given ones, then others in the order in which they first came.

        A class that came with a label is there as long as an image has it.
        """
        return self._labels.snapshot().class_names

    @property
    def labels(self) -> np.ndarray:
        """Label of each image, of shape (n_images,).

        A position in `class_names`, or UNLABELLED (-1), NONE (-2, "none of these") or SKIP (-3).
        """
        return self._labels.snapshot().codes

    @property
    def can_undo(self) -> bool:
        """Whether :meth:`undo` would change anything."""
        return self._labels.snapshot().can_undo

    @property
    def can_redo(self) -> bool:
        """Whether :meth:`redo` would change anything."""
        return self._labels.snapshot().can_redo

    @property
    def progress(self) -> Progress:
        """How far the labelling has come."""
        return progress_of(self._labels.snapshot())

    def label(
        self,
        indices: Sequence[int],
        answer: str | int | Sequence[str | int],
        *,
        shown: Sequence[str | None] | None = None,
        order: str | None = None,
    ) -> None:
        """Label images.

        The label is on the disk when this returns. After an error nothing has changed.

        Parameters
        ----------
        indices : list of int
            Positions in `images`.
        answer : str, int or list of them
            Name of a class, which may be new, or NONE ("none of these"), SKIP, or UNLABELLED, which
            takes labels away. A list has one answer per image; all are undone together.
        shown : list of str or None, default=None
            The answer that was shown for each image, or None. `progress` compares labels with it.
        order : str, default=None
            The `by` of :meth:`next` from which the images came.

        Raises
        ------
        TypeError, ValueError
            If an index is not one of an image or occurs twice, or the name is blank, too long, not
            printable, or the same as that of a class except for case or Unicode form.
        OSError
            If the label cannot be stored, for example on a full disk.
        """
        rows = self._checked(indices)
        answers: list[Any] = [answer] * len(rows)
        if not isinstance(answer, (str, int)) and isinstance(answer, Sequence):
            answers = list(answer)
        for name, each in {"answer": answers, "shown": shown}.items():
            if each is not None and len(each) != len(rows):
                raise ValueError(f"{name} has {len(each)} entries for {len(rows)} images.")
        self._labels.label(rows, answers, shown, order)

    def add_class(self, name: str) -> None:
        """Add a class without an image; see :meth:`label` for errors."""
        self._labels.add_class(name)

    def undo(self) -> list[int] | None:
        """Undo the last action, of this or a former session.

        Returns
        -------
        indices : list of int or None
            The images that it labelled; None if there is nothing to undo.
        """
        return self._labels.undo()

    def redo(self) -> list[int] | None:
        """Redo the last action that was undone; returns as :meth:`undo` does."""
        return self._labels.redo()

    @property
    def classifier(self) -> CandleClassifier | None:
        """The classifier behind the answers; None if there are less than two classes.

        Its weights are fixed, so that it can learn from each label at once; see :meth:`fit`.
        """
        return self._current()[1]

    def answer(self, indices: Sequence[int]) -> Answers:
        """Answers for some images, labelled or not, from all labels.

        Parameters
        ----------
        indices : list of int
            Positions in `images`.

        Returns
        -------
        answers : Answers
        """
        return self.labels_and_answers(indices)[1]

    def labels_and_answers(self, indices: Sequence[int] | None = None) -> tuple[Snapshot, Answers]:
        """Labels and classes, and the answers that follow from them.

        Parameters
        ----------
        indices : list of int, default=None
            Images of the answers. None means all.

        Returns
        -------
        snapshot : Snapshot
        answers : Answers
        """
        if indices is None:
            return self._answer_all()
        rows = self._checked(indices, unique=False)
        snapshot, classifier = self._current()
        return snapshot, answers_of(classifier, self._X[rows], snapshot.class_names)

    @property
    def answers(self) -> Answers:
        """Answers for all images; they are computed on first use after a change.

        This takes some tenths of a second for 10,000 images and 100 classes, and several seconds
        for 100,000 images and 1,000 classes.
        """
        return self._answer_all()[1]

    def next(
        self,
        n: int,
        by: str = "help",
        *,
        class_name: str | int | None = None,
        image: int | None = None,
        words: str | None = None,
        wait: bool = True,
    ) -> np.ndarray:
        """Choose images to show.

        Parameters
        ----------
        n : int
            Number of images; there may be fewer.
        by : str, default="help"
            Which images come first.

            * ``"help"``: those whose labels would help most. Among the 3 n most doubtful images,
              :meth:`~skcandle.CandleClassifier.choose_to_label` chooses n that cover the classes;
            * ``"doubt"``: the most doubtful;
            * ``"class"``: of those whose answer is `class_name`, the most probable;
            * ``"none"``: those that look least like any class;
            * ``"random"``: in a random order, which is always the same. Labels in this order give
              an unbiased estimate of the accuracy;
            * ``"image"``: those most similar to `image`;
            * ``"words"``: those most similar to the text `words`;
            * ``"labelled"``: those labelled with `class_name`, or any if it is None, the latest
              first.

            The first five leave out images that have a label. With less than two classes, the first
            four are in random order.
        class_name : str or int, default=None
            For ``"class"`` and ``"labelled"``; for the latter, NONE and SKIP are possible.
        image : int, default=None
            For ``"image"``, a position in `images`.
        words : str, default=None
            For ``"words"``.
        wait : bool, default=True
            Whether to wait for the answers for all images. With False, those of an earlier moment
            select some hundred images, of which present answers then choose.

        Returns
        -------
        indices : ndarray of shape (at most n,) of int
            Positions in `images`.

        Raises
        ------
        ValueError
            If `by` is unknown, or what it needs is missing.
        """
        if by not in BY:
            raise ValueError(f"by must be one of {', '.join(BY)}, got {by!r}.")
        if by == "image":
            (row,) = self._checked([image])
            similarity = self._X @ self._X[row]
            similarity[row] = -np.inf
            return _largest(similarity, min(n, self.n_images - 1))
        if by == "words":
            return _largest(self._X @ self._learner.word_features(words), n)
        if by == "labelled":
            labels = self._labels.snapshot().labels
            rows = [i for i, label in labels if class_name in (None, label.answer)]
            return np.array(rows[::-1][:n], dtype=int)
        snapshot = self._labels.snapshot()
        if by == "class" and class_name not in snapshot.class_names:
            raise ValueError(f"There is no class {class_name!r}.")
        unlabelled = snapshot.codes == UNLABELLED
        if by == "random" or len(snapshot.class_names) < 2:
            return self._random_order[unlabelled[self._random_order]][:n]
        return self._best(np.flatnonzero(unlabelled), n, by, class_name, wait)

    def fit(self) -> CandleClassifier:
        """Fit a classifier on the labels, with estimated weights.

        Returns
        -------
        classifier : CandleClassifier
            From :meth:`~skcandle.CandleClassifier.fit`, where classes without images are new
            classes. If the session started from a classifier, a copy of it that has learned from
            the labels. Then it learns from all images without labels, by
            :meth:`~skcandle.CandleClassifier.add_unlabeled`.

        Raises
        ------
        ValueError
            If there are less than two classes.
        """
        snapshot = self._labels.snapshot()
        if len(snapshot.class_names) < 2:
            raise ValueError("A model needs at least two classes. Label more images, or add names.")
        is_unlabelled = np.isin(snapshot.codes, (UNLABELLED, SKIP))
        fitted = self._learner.fit_with_weights(snapshot.class_names, snapshot.with_class)
        return fitted.add_unlabeled(self._X[is_unlabelled])

    def save_model(self, path: PathLike) -> Path:
        """Write a pipeline with the classifier of :meth:`fit` to a file.

        Parameters
        ----------
        path : str or path-like
            A .skops file, which is replaced if it exists. ``skcandle predict`` and
            :func:`skcandle.hub.load_pipeline` read it.

        Returns
        -------
        path : Path

        Raises
        ------
        ValueError
            If the session is not one of :meth:`open`, `path` does not end in .skops, or
            :meth:`fit` fails.
        """
        path = Path(path)
        if self._folder is None:
            raise ValueError("A session of embeddings has no pipeline; use its method fit.")
        if path.suffix.lower() != ".skops":
            raise ValueError(f"{str(path)!r} must end in .skops, the format of model files.")
        rows = [row for row, _ in self._labels.snapshot().with_class]
        pipe = CandlePipeline([("clip", self._folder.clip), ("candle", self.fit())])
        candle = fitted_candle(pipe)
        candle._training_images = candle._training_images.with_contents(
            self._X[rows], self._folder.contents[rows]
        )
        return _files.write_file(path, to_bytes(pipe), overwrite=True)

    def to_csv(self) -> Path:
        """Write the `output` of :meth:`open`: a table with a row for each image that has a class.

        Its columns are ``image``, the path from the folder of the table; ``label``; ``who``, which
        is "person" or "model"; ``when``; and ``probability``, for answers of the model. Images that
        are labelled NONE or SKIP are left out.

        Returns
        -------
        path : Path

        Raises
        ------
        ValueError
            If no image has a class yet, or the session is not one of :meth:`open`.
        """
        if self._folder is None:
            raise ValueError("A session of embeddings has no table; open a folder.")
        path, when, rows = self._folder.output, now(), []
        for image, (name, label, probability) in zip(self.images, self._says(), strict=True):
            if name is not None:
                by_model = (MODEL, when, f"{probability:.4f}")
                by = by_model if label is None else (PERSON, label.when, "")
                rows.append((path_in_table(image, path.parent), name, *by))
        if not rows:
            raise ValueError("No image has a class yet, so there is nothing to write.")
        content = table_text(rows).encode()
        # the table is then known, should the process end before it is complete
        self._labels.remember_table(_digest(content))
        return _files.write_file(path, content, overwrite=True)

    def sort_into(self, folder: PathLike) -> int:
        """Copy each image into a folder of its class.

        Parameters
        ----------
        folder : str or path-like
            Created if it does not exist. Images without a class go to a folder ``unknown`` in it.

        Returns
        -------
        n_files : int
            Number of copies.
        """
        names = [name for name, _, _ in self._says()]
        return sort_into(Path(folder), self.images, names, link=False)

    def close(self) -> None:
        """Write the table of :meth:`open`, if there are classes, and unlock the folder."""
        if self._journal is None or self._journal.is_closed:
            return
        try:
            if self._folder is not None and any(name for name, _, _ in self._says()):
                self.to_csv()
        finally:
            self._journal.close()

    def __enter__(self) -> "LabellingSession":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _says(self):
        """For each image: its class or None, the label of a person or None, and a probability."""
        snapshot, answers = self._answer_all()
        said, names = dict(snapshot.labels), [*snapshot.class_names, None]  # None without classes
        for i in range(self.n_images):
            label, probability = said.get(i), answers.probability[i]
            if label is None:
                yield names[answers.label[i]], None, probability
            else:
                yield label.answer if isinstance(label.answer, str) else None, label, probability

    def _take_over_table(self, output):
        """Label as persons did in the table, if another program has written it."""
        if not output.exists() or _digest(output.read_bytes()) in self._labels.tables:
            return
        rows = {path_in_table(image, output.parent): i for i, image in enumerate(self.images)}
        said = dict(self._labels.snapshot().labels)
        changed: dict[str, list[int]] = {}
        for image, name in labels_in_table(output):
            label = said.get(rows.get(image, -1))
            if image in rows and (label is None or label.answer != name):
                changed.setdefault(name, []).append(rows[image])
        for name, images in changed.items():
            self.label(images, name)

    def _checked(self, indices, unique=True):
        """Indices of images as a list of int."""
        rows = np.asarray(indices)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" and len(rows):
            raise TypeError(f"Indices of images must be a list of integers, got {indices!r}.")
        rows = rows.astype(int).tolist()
        wrong = [i for i in rows if not 0 <= i < self.n_images]
        if wrong:
            raise ValueError(f"There is no image {wrong[0]}; there are {self.n_images} images.")
        if unique and len(set(rows)) < len(rows):
            raise ValueError("An image occurs twice.")
        return rows

    def _current(self):
        """Labels and classes as they are now, and the classifier that follows from them."""
        with self._fitting:
            snapshot = self._labels.snapshot()
            if snapshot is not self._fitted[0]:
                classifier = self._learner.fit(
                    snapshot.class_names, snapshot.lasting_names, snapshot.with_class
                )
                self._fitted = snapshot, classifier
            return self._fitted

    def _answer_all(self):
        with self._answering:
            snapshot, classifier = self._current()
            if snapshot is not self._answered[0]:
                answers = answers_of(classifier, self._X, snapshot.class_names)
                self._answered = snapshot, answers
            return self._answered

    def _best(self, rows, n, by, class_name, wait):
        """The best of some images by their answers."""
        if wait or self._answered[0] is None:
            self._answer_all()
        earlier, answers = self._answered
        scores = _scores(answers.at(rows), by, earlier.class_names, class_name)
        shortlist = rows[_largest(scores, SHORTLIST + 3 * n)]
        snapshot, classifier = self._current()
        answers = answers_of(classifier, self._X[shortlist], snapshot.class_names)
        scores = _scores(answers, by, snapshot.class_names, class_name)
        best = shortlist[_largest(scores, 3 * n if by == "help" else n)]
        if by == "class":
            return best[: np.sum(scores >= 0)]
        if by == "help" and n and len(best) and classifier is not None:
            return best[classifier.choose_to_label(self._X[best], min(n, len(best)))]
        return best[:n]


def _scores(answers, by, class_names, class_name):
    """What is largest for the images that come first."""
    if by == "none":
        return answers.novelty
    if by == "doubt" or by == "help" or class_name not in class_names:  # at an earlier moment
        return answers.doubt
    is_answer = answers.label == class_names.index(class_name)
    return np.where(is_answer, answers.probability, -1)


def _clip_and_classifier(model):
    """The CLIP of a session, and the classifier from which it starts, if there is one."""
    if not isinstance(model, Pipeline):
        return copy(model) if isinstance(model, CLIPFeaturizer) else CLIPFeaturizer(model), None
    start = fitted_candle(model)
    if start.classes_.dtype.kind not in "UO":
        raise TypeError("The labels of the model must be names, but they are numbers.")
    return copy(model["clip"]), start


def _largest(values, n):
    """Positions of the n largest values, in order; of equal ones the first come first."""
    return np.argsort(-values, kind="stable")[:n]


def _digest(content):
    return hashlib.sha256(content).hexdigest()
