"""A report on a set of images: errors, doubtful labels, duplicates, and novel images."""

from functools import cached_property
from html import escape
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_consistent_length, check_scalar

from .._files import write_file
from .._images.inputs import as_image_list
from .._labels import label_array
from .._typing import Images, Labels, Path
from ._answers import Answers, answer, embed
from ._csv import csv_text
from ._findings import Findings, find
from ._fitted import is_readable, split_pipeline
from ._page import report_page
from ._search import SearchResult, search
from ._thumbnails import image_path

UNKNOWN_REASON = "cannot be read"


class Flag(NamedTuple):
    """An image to look at, and why, as :meth:`ImageReport.flagged` lists it.

    Parameters
    ----------
    position : int
        Position of the image among those of the report.
    path : str
        Its path; empty for images that are not files.
    reason : str
        Why to look at it, for example ``"wrong prediction"``.
    label : str
        Its label; empty without labels.
    answer : str
        The predicted class; empty for images that cannot be read.
    confidence : str
        Probability of the predicted class; empty for images that cannot be read.
    """

    position: int
    path: str
    reason: str
    label: str
    answer: str
    confidence: str


class ImageReport:
    """A report on a set of images that finds errors of the classifier and problems of the images.

    It shows the long tail of the classes, accuracy by number of training images and by class,
    pairs of classes that are confused, the worst errors, labels that are probably wrong,
    near-duplicates and whether they have several labels, images that look like none of the
    classes, and files that cannot be read. Without labels, findings that need them are omitted.

    A notebook displays the report; :meth:`save` writes it to one HTML file that needs no network.

    Parameters
    ----------
    pipe : Pipeline
        Fitted pipeline of a featurizer and a classifier, as
        :func:`~skcandle.make_candle_pipeline` makes, or a search over one.

    images : list, array, Series or one-column DataFrame of length n_images
        As for :class:`~skcandle.CLIPFeaturizer`. The report lists images that cannot be read.

    y : array-like of shape (n_images,), default=None
        Their labels. Labels that are not classes of the classifier count as errors.

    title : str, default="Image report"
        Heading of the page.

    is_training : bool or "auto", default="auto"
        Whether the classifier was fitted on these images. ``"auto"`` recognises images on which
        it was fitted, all or some of them, by digests that the classifiers of this library keep.
        Images that are not recognised count as test images. True says that all of them are
        training images, False that none is.

        The prediction of a :class:`~skcandle.CandleClassifier` for a training image comes from a
        copy of it without the image: in five folds, with the estimated weights, and without
        training the projection. For training images that are not recognised, without text, and for
        other classifiers, it is optimistic, and the page says so.

    duplicate_similarity : float, default=0.98
        Minimum cosine of the embeddings of near-duplicates, in (0, 1]. Models differ in how
        similar they make images: raise it if the groups are too large.

    n_shown : int, default=24
        Maximum number of images, or groups of duplicates, per section.

    thumbnail_size : int, default=128
        Largest width and height of an embedded image, in pixels.

    Attributes
    ----------
    embeddings : ndarray of shape (n_images, n_features)
        Embeddings, with rows of NaN for images that cannot be read.
    y_pred : ndarray of shape (n_images,) of object
        Predicted labels; None for images that cannot be read.
    confidence : ndarray of shape (n_images,)
        Probability of the predicted label; NaN for images that cannot be read.
    novelty : ndarray of shape (n_images,)
        ``novelty_score`` of the classifier if it has one, otherwise its negated largest logit: the
        larger, the less an image looks like any class.
    accuracy : float or None
        Mean per-class accuracy.
    label_errors : ndarray of int or None
        Positions of labels that are probably wrong, the most likely first. None without labels or
        without cleanlab.
    duplicates : list of ndarray of int
        Positions of each group of near-duplicates, groups with several labels first.
    unreadable : dict of int to str
        What is wrong with the images that cannot be read, by position.

    See Also
    --------
    PredictionGridDisplay : A figure of images and predictions.

    Notes
    -----
    cleanlab finds likely label errors by confident learning [1]_; install it with
    ``pip install "skcandle[report]"``.

    To find near-duplicates, each image is compared with its 16 nearest neighbours, block by block.
    Images that are connected by a chain of similar pairs form one group.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang: "Confident learning: estimating uncertainty in
       dataset labels", JAIR 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.inspection import ImageReport
    >>> emoji = load_emoji()
    >>> fruit = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon", "grapes"]))
    >>> images, y = [emoji.images[i] for i in fruit], emoji.target[fruit]
    >>> pipe = make_candle_pipeline("emoji-clip", random_state=0).fit(images, y)
    >>> report = ImageReport(pipe, images, y)
    >>> report.save("report.html")  # doctest: +SKIP
    >>> report.search("a yellow lemon", n_images=2).positions.shape
    (2,)
    """

    images: list
    y: np.ndarray | None
    unreadable: dict[int, str]
    _answers: Answers
    _featurizer: Any
    _findings: Findings
    _n_shown: int

    def __init__(
        self,
        pipe: Any,
        images: Images,
        y: Labels | None = None,
        *,
        title: str = "Image report",
        is_training: bool | str = "auto",
        duplicate_similarity: float = 0.98,
        n_shown: int = 24,
        thumbnail_size: int = 128,
    ) -> None:
        if is_training not in (True, False, "auto"):
            raise ValueError(f'is_training must be True, False or "auto", got {is_training!r}.')
        check_scalar(
            duplicate_similarity,
            "duplicate_similarity",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="right",
        )
        check_scalar(n_shown, "n_shown", Integral, min_val=1)
        check_scalar(thumbnail_size, "thumbnail_size", Integral, min_val=1)
        self._featurizer, self._classifier = split_pipeline(pipe)
        self.title = title
        self.images = as_image_list(images)
        self.y = None if y is None else label_array(y)
        check_consistent_length(self.images, self.y)
        self._n_shown, self._thumbnail_size = n_shown, thumbnail_size

        rows, reasons, contents = embed(self._featurizer, self.images)
        readable = is_readable(rows)
        if not readable.any():
            raise ValueError(
                f"None of the {len(self.images)} images can be read; there is nothing to report."
            )
        self.unreadable = {
            int(i): reasons.get(i, UNKNOWN_REASON) for i in np.flatnonzero(~readable)
        }
        self._answers = answer(self._classifier, rows, self.y, is_training, contents)
        count = getattr(self._classifier, "class_count_", None)
        self._findings = find(self._answers, count, duplicate_similarity)
        self.embeddings = np.asarray(rows)
        y_pred = np.asarray(self._classifier.classes_)[self._answers.y_proba.argmax(axis=1)]
        self.y_pred = self._at_positions(y_pred, None, object)
        self.confidence = self._at_positions(self._answers.confidence, np.nan, float)
        self.novelty = self._at_positions(self._answers.novelty, np.nan, float)
        self.accuracy = self._findings.accuracy
        self.duplicates = [self._positions(group.rows) for group in self._findings.duplicates]
        errors = self._findings.label_errors
        self.label_errors = None if errors is None else self._positions(errors)

    def save(self, path: Path, *, overwrite: bool = False) -> Any:
        """Write the report to one HTML file.

        Parameters
        ----------
        path : str or path-like
            Name of the file, such as ``"report.html"``.
        overwrite : bool, default=False
            Whether to overwrite an existing file.

        Returns
        -------
        path : pathlib.Path
            The file.

        Raises
        ------
        OSError
            If the file exists, its folder does not exist, or it cannot be written.
        """
        return write_file(path, self._page, overwrite=overwrite)

    def flagged(self) -> list[Flag]:
        """List images to look at, each with a reason; an image may occur several times.

        Returns
        -------
        flags : list of Flag
            Named tuples; ``pandas.DataFrame(report.flagged())`` makes a table of them.
        """
        findings, shown = self._findings, self._n_shown
        flags = []
        for row in [] if findings.label_errors is None else findings.label_errors:
            flags.append(self._flag(row, "likely label error"))
        for group in findings.duplicates:
            several = len(group.labels) > 1
            reason = "near-duplicate in another class" if several else "near-duplicate"
            flags += [self._flag(row, reason) for row in group.rows]
        flags += [self._flag(row, "least like any class") for row in findings.novel[:shown]]
        for row in [] if findings.errors is None else findings.errors:
            flags.append(self._flag(row, "wrong prediction"))
        for position, reason in self.unreadable.items():
            label = "" if self.y is None else str(self.y[position])
            path = image_path(self.images[position])
            flags.append(Flag(position, path, f"unreadable: {reason}", label, "", ""))
        return flags

    def save_flagged(self, path: Path, *, overwrite: bool = False) -> Any:
        """Write :meth:`flagged` to a CSV file.

        Parameters
        ----------
        path : str or path-like
            Name of the file, such as ``"flagged.csv"``.
        overwrite : bool, default=False
            Whether to overwrite an existing file.

        Returns
        -------
        path : pathlib.Path
            The file. Text that a spreadsheet would run as a formula gets a leading ``'``.

        Raises
        ------
        OSError
            If the file exists, its folder does not exist, or it cannot be written.
        """
        return write_file(path, csv_text(Flag._fields, self.flagged()), overwrite=overwrite)

    def search(self, text: str, *, n_images: int = 12) -> SearchResult:
        """Find the images that are most similar to a text.

        Parameters
        ----------
        text : str
            What to search for, for example ``"a red car"``.
        n_images : int, default=12
            Maximum number of images.

        Returns
        -------
        result : SearchResult
            The images found; a notebook displays them.

        Raises
        ------
        ValueError
            If `text` is empty, `n_images` is not positive, or no step of the pipeline encodes
            text.
        """
        check_scalar(n_images, "n_images", Integral, min_val=1)
        steps = [step for _, step in self._featurizer.steps if hasattr(step, "encode_text")]
        if not steps:
            raise ValueError(
                "A search needs a step of the pipeline with encode_text, such as a CLIPFeaturizer."
            )
        found = self._answers
        return search(text, steps[-1], found.X, found.positions, self.images, n_images)

    def _repr_html_(self):
        """The page in a frame, which isolates its style and script from the notebook."""
        return (
            '<iframe sandbox="allow-scripts allow-downloads" style="width:100%;height:720px;border:'
            f'1px solid #ccc" title="{escape(self.title)}" srcdoc="{escape(self._page)}"></iframe>'
        )

    def __repr__(self):
        n_groups = len(self.duplicates)
        return (
            f"ImageReport({len(self.images)} images, {len(self._classifier.classes_)} classes, "
            f"{n_groups} group{'' if n_groups == 1 else 's'} of near-duplicates, "
            f"{len(self.unreadable)} unreadable)"
        )

    @cached_property
    def _page(self):
        return report_page(
            self._answers,
            self._findings,
            self.images,
            self.flagged(),
            self.unreadable,
            title=self.title,
            n_shown=self._n_shown,
            thumbnail_size=self._thumbnail_size,
        )

    def _flag(self, row, reason):
        answers, position = self._answers, int(self._answers.positions[row])
        return Flag(
            position,
            image_path(self.images[position]),
            reason,
            "" if answers.y is None else str(answers.y[row]),
            str(answers.y_pred[row]),
            f"{answers.confidence[row]:.4f}",
        )

    def _positions(self, rows):
        return self._answers.positions[rows]

    def _at_positions(self, values, missing, dtype):
        everything = np.full(len(self.images), missing, dtype=dtype)
        everything[self._answers.positions] = values
        return everything
