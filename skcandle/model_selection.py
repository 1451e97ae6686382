"""Splits and out-of-fold probabilities for classifiers that also know classes by name only."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed

from ._labels import label_array
from ._sklearn_private import safe_indexing
from ._typing import Labels, RandomState
from ._warnings import warn_user

__all__ = ["NewClassSplit", "base_new_split", "cross_val_predict_proba"]


class NewClassSplit(BaseCrossValidator):
    """Cross-validator that hides whole classes from the training set of each fold.

    In every fold, some classes have no training images: all their images are in the test set,
    together with some images of the other, *seen* classes. If the label universe of a classifier
    contains all classes (see `class_names` of :class:`~skcandle.CandleClassifier`), the hidden
    classes are new classes for it, and an ordinary search with an ordinary scorer evaluates them.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds. The folds are drawn one after another, so their number affects neither
        their sizes nor the earlier folds.

    new_fraction : float, default=0.5
        Share of the classes that a fold hides, in (0, 1), rounded down; at least one class is
        hidden and at least two are seen. All classes are hidden equally often, up to a difference
        of one.

    test_size : float, default=0.25
        Share of the images of a seen class that go to the test set, in (0, 1), rounded down: at
        least one, and at least one stays in the training set. The only image of a seen class stays
        in the training set.

    random_state : int, RandomState instance or None, default=None
        Controls which classes and images are held out. With an int, every call returns the same
        folds.

    Raises
    ------
    ValueError
        If `n_splits` is not a positive integer, or a share is not between 0 and 1.

    See Also
    --------
    skcandle.metrics.harmonic_mean_scorer : Scorer that weighs seen and hidden classes equally.
    base_new_split : Split classes once.
    sklearn.model_selection.StratifiedShuffleSplit : Folds in which every class is seen.

    Notes
    -----
    A fold needs seen classes in its test set. If all classes with two or more images were hidden
    at once, one of them is made a seen class instead. If there are few such classes, they are
    therefore hidden less often than the others.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle.model_selection import NewClassSplit
    >>> y = np.array(["cat", "cat", "cat", "cow", "cow", "dog", "dog", "okapi", "okapi"])
    >>> cv = NewClassSplit(n_splits=2, random_state=0)
    >>> for train, test in cv.split(y, y):
    ...     hidden = np.setdiff1d(y[test], y[train])
    ...     print(hidden, len(train), len(test))
    ['cat' 'okapi'] 2 7
    ['cow' 'dog'] 3 6
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        new_fraction: float = 0.5,
        test_size: float = 0.25,
        random_state: RandomState = None,
    ) -> None:
        if not isinstance(n_splits, Integral) or n_splits < 1:
            raise ValueError(f"n_splits must be a positive integer, got {n_splits!r}.")
        for name, value in (("new_fraction", new_fraction), ("test_size", test_size)):
            if not isinstance(value, Real) or not 0 < value < 1:
                raise ValueError(f"{name} must be a number between 0 and 1, got {value!r}.")
        self.n_splits: int = n_splits
        self.new_fraction: float = new_fraction
        self.test_size: float = test_size
        self.random_state: RandomState = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X : object, default=None
            Ignored.

        y : object, default=None
            Ignored.

        groups : object, default=None
            Ignored.

        Returns
        -------
        n_splits : int
            Number of folds.
        """
        return self.n_splits

    def split(
        self, X: Any, y: Labels, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the indices of the training set and the test set of each fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples; only their number is used.

        y : array-like of shape (n_samples,)
            Labels, strings or integers.

        groups : object, default=None
            Ignored.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Sorted indices of the training set.

        test : ndarray of shape (n_test,)
            Sorted indices of the test set.

        Raises
        ------
        ValueError
            If `y` is None or has missing labels, fewer than three classes, or no class with two
            images.
        TypeError
            If labels are neither all strings nor all numbers.
        """
        return super().split(X, y, groups)

    def _iter_test_masks(self, X=None, y=None, groups=None):
        y, counts = self._check_target(X, y)
        n_classes, rng = len(counts), check_random_state(self.random_state)
        n_new = _n_new(n_classes, self.new_fraction, n_base=2)
        times_hidden = np.zeros(n_classes, dtype=int)
        for _ in range(self.n_splits):
            hidden = _draw_hidden(times_hidden, counts > 1, n_new, rng)
            times_hidden[hidden] += 1
            mask = np.isin(y, hidden)
            for label in np.setdiff1d(np.flatnonzero(counts > 1), hidden):
                n_test = max(int(self.test_size * counts[label]), 1)
                mask[rng.permutation(np.flatnonzero(y == label))[:n_test]] = True
            yield mask

    @staticmethod
    def _check_target(X, y):
        if y is None:
            raise ValueError("NewClassSplit needs labels; pass y.")
        y = label_array(y)
        kind = type_of_target(y)
        if kind not in ("binary", "multiclass"):
            raise ValueError(f"NewClassSplit needs class labels in y, got a {kind} target.")
        classes, y, counts = np.unique(y, return_inverse=True, return_counts=True)
        if len(classes) < 3:
            raise ValueError(
                "NewClassSplit hides some classes and trains on at least two, so y must have at "
                f"least 3 classes, got {len(classes)}."
            )
        if counts.max() < 2:
            raise ValueError(
                "NewClassSplit needs a class with 2 or more images, to train on one and test on "
                "another; every class of y has a single image."
            )
        return y, counts


def _draw_hidden(times_hidden, several, n_new, rng):
    """Draw `n_new` of the classes hidden least often, but leave one of `several` seen."""
    order = np.lexsort((rng.uniform(size=len(several)), times_hidden))
    hidden, seen = order[:n_new], order[n_new:]
    if not several[seen].any():
        last = np.flatnonzero(several[hidden])[-1]
        hidden[last] = seen[0]
    return hidden


def base_new_split(
    classes_or_y: Labels,
    *,
    new_fraction: float = 0.5,
    order: str = "random",
    random_state: RandomState = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split classes into base classes and new classes.

    Parameters
    ----------
    classes_or_y : array-like of shape (n,)
        Labels of classes, or of images.

    new_fraction : float, default=0.5
        Share of the classes that become new, in (0, 1), rounded down; at least one class is a base
        class and one is new.

    order : {"random", "sorted"}, default="random"
        Whether the new classes are drawn at random or are the last ones in sorted order. With
        ``"sorted"`` and half of the classes, the split is that of the base-to-new benchmark [1]_.

    random_state : int, RandomState instance or None, default=None
        Controls which classes are new; has no effect with ``order="sorted"``.

    Returns
    -------
    base_classes : ndarray of shape (n_base_classes,)
        Sorted labels of the classes to train on.

    new_classes : ndarray of shape (n_new_classes,)
        Sorted labels of the classes whose images are only for testing.

    Raises
    ------
    ValueError
        If `new_fraction` is not in (0, 1), `order` is unknown, a label is missing, or there are
        fewer than two classes.
    TypeError
        If labels are neither all strings nor all numbers.

    See Also
    --------
    NewClassSplit : Cross-validator with many such splits.

    References
    ----------
    .. [1] Zhou, Yang, Loy and Liu, "Conditional prompt learning for vision-language models",
       CVPR 2022.

    Examples
    --------
    >>> from skcandle.model_selection import base_new_split
    >>> base_new_split(["cat", "cow", "dog", "okapi"], random_state=0)
    (array(['cat', 'cow'], dtype='<U5'), array(['dog', 'okapi'], dtype='<U5'))
    >>> base_new_split(["okapi", "dog", "cat"], order="sorted")
    (array(['cat', 'dog'], dtype='<U5'), array(['okapi'], dtype='<U5'))
    """
    if order not in ("random", "sorted"):
        raise ValueError(f'order must be "random" or "sorted", got {order!r}.')
    if not isinstance(new_fraction, Real) or not 0 < new_fraction < 1:
        raise ValueError(f"new_fraction must be a number between 0 and 1, got {new_fraction!r}.")
    classes = np.unique(label_array(classes_or_y, "classes_or_y"))
    if len(classes) < 2:
        raise ValueError(f"classes_or_y must have at least 2 classes, got {len(classes)}.")
    n_new = _n_new(len(classes), new_fraction, n_base=1)
    if order == "sorted":
        return classes[:-n_new], classes[-n_new:]
    drawn = check_random_state(random_state).permutation(len(classes))
    return classes[np.sort(drawn[n_new:])], classes[np.sort(drawn[:n_new])]


def _n_new(n_classes, new_fraction, n_base):
    """Number of new classes: the share, rounded down, but at least 1 and not too many."""
    n_new = int(new_fraction * n_classes + 1e-9)  # because 0.29 * 100 is slightly less than 29
    return min(max(n_new, 1), n_classes - n_base)


def cross_val_predict_proba(
    estimator: Any,
    X: Any,
    y: Labels,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of each image by a classifier that was fitted without it.

    Unlike :func:`sklearn.model_selection.cross_val_predict` with ``method="predict_proba"``, it
    works with classes that have no images. All folds have the same classes: a class of `y` whose
    images are all in one test set is a new class for the classifier of that fold.

    Parameters
    ----------
    estimator : object
        :class:`~skcandle.CandleClassifier`, a pipeline that ends in one, or any other classifier
        with `predict_proba`. It is cloned for each fold.

    X : array-like or list of shape (n_samples, ...)
        Samples.

    y : array-like of shape (n_samples,)
        Labels.

    groups : array-like of shape (n_samples,), default=None
        Groups of samples that stay together, for splitters such as
        :class:`~sklearn.model_selection.GroupKFold`.

    cv : int, splitter or iterable, default=None
        Folds, as in :func:`sklearn.model_selection.cross_val_predict`; each sample must be in one
        test set. None means five stratified folds.

    n_jobs : int, default=None
        Number of folds that are fitted at the same time, see
        :func:`sklearn.model_selection.cross_val_predict`.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities; rows sum to one.

    classes : ndarray of shape (n_classes,)
        Labels of the columns: those of `y` and the new classes of the estimator, sorted.

    Raises
    ------
    ValueError
        If a sample is in no test set or in several, or a label is missing.

    Warns
    -----
    UserWarning
        If a fold has no image of a class that its classifier cannot know by name, because it uses
        no text. The probability of this class is 0 in that fold.

    See Also
    --------
    skcandle.metrics.joint_log_loss_scorer : Scores the probabilities of each fold.
    skcandle.metrics.base_new_report : Accuracy and calibration, from logarithms of probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import CandleClassifier
    >>> from skcandle.model_selection import cross_val_predict_proba
    >>> text = dict(zip(["cat", "cow", "dog", "okapi"], np.eye(4)))
    >>> y = np.repeat(["cat", "cow", "dog"], [4, 4, 1])  # the only dog is in one test set
    >>> X = np.stack([text[name] for name in y]) + np.random.default_rng(0).normal(size=(9, 4)) / 9
    >>> clf = CandleClassifier(new_classes=["okapi"], text_encoder=text)
    >>> even, odd = np.arange(0, 9, 2), np.arange(1, 9, 2)
    >>> proba, classes = cross_val_predict_proba(clf, X, y, cv=[(even, odd), (odd, even)])
    >>> proba.shape, classes.tolist()
    ((9, 4), ['cat', 'cow', 'dog', 'okapi'])
    >>> bool((classes[proba.argmax(axis=1)] == y).all())
    True
    """
    X, y, groups = indexable(X, y, groups)
    labels = label_array(y)
    folds = list(check_cv(cv, labels, classifier=True).split(X, labels, groups))
    times = np.bincount(np.concatenate([test for _, test in folds]), minlength=len(labels))
    if (times != 1).any():
        i = int(np.argmax(times != 1))
        raise ValueError(
            f"cv must put each sample into one test set, but sample {i} is in {times[i]}. For such "
            "splits, use cross_validate with the scorers of skcandle.metrics."
        )
    fit = delayed(_fold_proba)
    parts = Parallel(n_jobs=n_jobs)(
        fit(clone(estimator), X, y, labels, train, test) for train, test in folds
    )
    classes = np.unique(np.concatenate([labels, *(own for own, _ in parts)]))
    proba = np.zeros((len(labels), len(classes)), dtype=np.result_type(*(p for _, p in parts)))
    for (_, test), (own, values) in zip(folds, parts, strict=True):
        proba[np.ix_(test, np.searchsorted(classes, own))] = values
    unknown = np.unique(np.concatenate([np.setdiff1d(labels, own) for own, _ in parts]))
    if len(unknown):
        warn_user(
            f"The classifier of a fold without images of the class {unknown[0].item()!r} does not "
            "know it, so its probability is 0 there. Use a classifier with a text_encoder, or "
            "folds that have images of every class in the training set."
        )
    return proba, classes


def _fold_proba(estimator, X, y, labels, train, test):
    """Classes and probabilities of a fold; classes without training images are new classes."""
    absent = np.setdiff1d(labels, labels[train]).tolist()
    parameters = estimator.get_params() if absent else {}
    for name, value in parameters.items():
        prefix = name.removesuffix("new_classes")
        if prefix != name and parameters.get(f"{prefix}text_encoder") is not None:
            known = [] if value is None else list(value)
            new_classes = [*known, *(label for label in absent if label not in known)]
            estimator.set_params(**{name: new_classes})
    estimator.fit(safe_indexing(X, train), safe_indexing(y, train))
    return estimator.classes_, estimator.predict_proba(safe_indexing(X, test))
