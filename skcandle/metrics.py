"""Metrics for classifiers that know base classes by images and new classes by name only.

All accuracies are class-balanced: they are the mean recall of the classes that occur in
``y_true``. In *separate* label spaces, an image of a base class is classified among base classes
only, and an image of a new class among new classes only. In the *joint* label space, every image is
classified among all classes, as ``predict`` does.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from scipy.stats import hmean
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, auc, log_loss, recall_score
from sklearn.utils import check_array, check_consistent_length

from ._labels import label_array
from ._typing import Labels
from ._warnings import warn_user

__all__ = [
    "ausuc_score",
    "base_new_curve",
    "base_new_report",
    "expected_calibration_error",
    "harmonic_mean_score",
    "harmonic_mean_scorer",
    "joint_accuracy_scorer",
    "joint_log_loss_scorer",
    "shot_band_accuracy",
]


_REPORT = """\
                         base      new  harmonic mean
separate spaces         {base:.3f}    {new:.3f}          {harmonic_mean:.3f}
joint space             {joint_base:.3f}    {joint_new:.3f}          {joint_harmonic_mean:.3f}
joint, best offset                              {best_joint_harmonic_mean:.3f}

AUSUC {ausuc:.3f}   log-loss {log_loss:.3f}   ECE {ece:.3f}"""


def harmonic_mean_score(
    y_true: Labels, y_pred: Labels, *, new_classes: Labels, zero_division: float = np.nan
) -> float:
    """Harmonic mean of base and new accuracy in the joint label space.

    It is high only if both kinds of classes are recognised: a classifier that never predicts a new
    class scores 0, however accurate it is on base classes.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.

    y_pred : array-like of shape (n_samples,)
        Predicted labels, among all base and new classes.

    new_classes : array-like of shape (n_new_classes,)
        Labels of the classes without training images; every other label is a base class. Labels
        that do not occur in `y_true` have no effect.

    zero_division : float, default=np.nan
        Value to return, with an ``UndefinedMetricWarning``, if `y_true` has no base class or no new
        class.

    Returns
    -------
    score : float
        Between 0 and 1, or `zero_division`.

    Raises
    ------
    ValueError
        If `y_true` is empty, lengths differ, or a label is missing.

    See Also
    --------
    harmonic_mean_scorer : Scorer that takes the new classes from the fitted classifier.
    base_new_report : The accuracies behind this score, and more.

    Notes
    -----
    With the class-balanced accuracies :math:`b` of base classes and :math:`n` of new classes, the
    score is :math:`2 b n / (b + n)`, or 0 if both are 0 [1]_. Published base-to-new results usually
    measure :math:`b` and :math:`n` in separate label spaces [2]_; this is ``"harmonic_mean"`` in
    :func:`base_new_report`.

    References
    ----------
    .. [1] Xian, Lampert, Schiele and Akata, "Zero-shot learning - a comprehensive evaluation of
       the good, the bad and the ugly", IEEE TPAMI 41, 2019.
    .. [2] Zhou, Yang, Loy and Liu, "Conditional prompt learning for vision-language models",
       CVPR 2022.

    Examples
    --------
    >>> from skcandle.metrics import harmonic_mean_score
    >>> y_true = ["cat", "cat", "dog", "okapi"]
    >>> y_pred = ["cat", "dog", "dog", "okapi"]
    >>> harmonic_mean_score(y_true, y_pred, new_classes=["okapi"])  # 0.75 and 1
    0.857...
    """
    present, recall = _recall(y_true, y_pred)
    is_new = np.isin(present, _labels(new_classes, "new_classes"))
    if is_new.all() or not is_new.any():
        side = "base" if is_new.all() else "new"
        warn_user(
            f"The harmonic mean is undefined, because y_true has no {side} class; the score is "
            f"zero_division={zero_division}.",
            UndefinedMetricWarning,
        )
        return float(zero_division)
    return float(hmean([recall[~is_new].mean(), recall[is_new].mean()]))


def harmonic_mean_scorer(estimator: Any, X: Any, y: Labels) -> float:
    """Score a fitted classifier by :func:`harmonic_mean_score`, for ``scoring=``.

    New classes are those that the classifier has seen no image of: the classes marked by its
    `is_new_`, and labels of `y` that are not in its `classes_`. The scorer works for every
    classifier, and for :class:`~skcandle.model_selection.NewClassSplit`, which hides other classes
    in each fold.

    Parameters
    ----------
    estimator : object
        Fitted classifier, or a pipeline or search that ends in one.

    X : array-like of shape (n_samples, ...)
        Test samples.

    y : array-like of shape (n_samples,)
        True labels.

    Returns
    -------
    score : float
        Between 0 and 1, or ``nan`` with an ``UndefinedMetricWarning`` if `y` has no base class or
        no new class. A warning names the labels of `y` that the classifier does not know; they
        count as errors.

    See Also
    --------
    harmonic_mean_score : The metric, with an explicit list of new classes.
    skcandle.model_selection.NewClassSplit : Folds that hide whole classes from training.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from skcandle import CandleClassifier
    >>> from skcandle.metrics import harmonic_mean_scorer
    >>> from skcandle.model_selection import NewClassSplit
    >>> text = dict(zip(["cat", "cow", "dog", "okapi"], np.eye(4)))
    >>> y = np.repeat(list(text), 3)
    >>> X = np.stack([text[name] for name in y]) + np.random.default_rng(0).normal(size=(12, 4)) / 9
    >>> clf = CandleClassifier(class_names=list(text), text_encoder=text)
    >>> cv = NewClassSplit(n_splits=3, random_state=0)
    >>> cross_val_score(clf, X, y, cv=cv, scoring=harmonic_mean_scorer)
    array([1., 1., 1.])
    """
    y = _labels(y, "y")
    classifier = _final_estimator(estimator)
    classes = np.asarray(classifier.classes_)
    _warn_of_unknown(y, classes)
    trained = classes[~classifier.is_new_] if hasattr(classifier, "is_new_") else classes
    new_classes = np.setdiff1d(y, trained)
    return harmonic_mean_score(y, estimator.predict(X), new_classes=new_classes)


def joint_accuracy_scorer(
    estimator: Any, X: Any, y: Labels, *, class_prior: Mapping[Any, float] | None = None
) -> float:
    """Score a fitted classifier by its accuracy in the joint label space, for ``scoring=``.

    Every class of `y` counts the same, or as much as a prior says, however many test images it has.

    Parameters
    ----------
    estimator : object
        Fitted classifier, or a pipeline or search that ends in one.

    X : array-like of shape (n_samples, ...)
        Test samples.

    y : array-like of shape (n_samples,)
        True labels.

    class_prior : mapping, default=None
        Frequency in use of each label of `y`, on any scale. None means that all classes are equally
        frequent.

    Returns
    -------
    score : float
        Between 0 and 1. A warning names the labels of `y` that the classifier does not know; they
        count as errors.

    Raises
    ------
    ValueError
        If `class_prior` has no frequency for a label of `y`, a negative one, or only zeros.

    See Also
    --------
    joint_log_loss_scorer : Scores the probabilities.
    harmonic_mean_scorer : Weighs classes with images and classes without images equally.

    Notes
    -----
    With the recall :math:`r_k` and the frequency :math:`\\pi_k` of class :math:`k`, the score is
    :math:`\\sum_k \\pi_k r_k / \\sum_k \\pi_k` over the classes of `y`.

    Examples
    --------
    For ``scoring=``, ``functools.partial`` sets a prior:

    >>> from functools import partial
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from skcandle import CandleClassifier
    >>> from skcandle.metrics import joint_accuracy_scorer
    >>> text = dict(zip(["cat", "cow", "dog", "okapi"], np.eye(4)))
    >>> y = np.repeat(["cat", "cow", "dog"], 4)
    >>> X = np.stack([text[name] for name in y]) + np.random.default_rng(0).normal(size=(12, 4)) / 9
    >>> clf = CandleClassifier(class_names=list(text), text_encoder=text)
    >>> often_cats = partial(joint_accuracy_scorer, class_prior={"cat": 8, "cow": 1, "dog": 1})
    >>> cross_val_score(clf, X, y, cv=2, scoring=often_cats)
    array([1., 1.])
    """
    y = _labels(y, "y")
    _warn_of_unknown(y, np.asarray(_final_estimator(estimator).classes_))
    weight = _prior_weight(y, class_prior)
    return float(accuracy_score(y, estimator.predict(X), sample_weight=weight))


def joint_log_loss_scorer(
    estimator: Any, X: Any, y: Labels, *, class_prior: Mapping[Any, float] | None = None
) -> float:
    """Score a fitted classifier by its log-loss in the joint label space, for ``scoring=``.

    Unlike ``scoring="neg_log_loss"``, it works if the classifier knows classes that `y` does not
    contain. Every class of `y` counts the same, or as much as a prior says, however many test
    images it has.

    Parameters
    ----------
    estimator : object
        Fitted classifier with `predict_proba`, or a pipeline or search that ends in one.

    X : array-like of shape (n_samples, ...)
        Test samples.

    y : array-like of shape (n_samples,)
        True labels.

    class_prior : mapping, default=None
        Frequency in use of each label of `y`, on any scale. None means that all classes are equally
        frequent. Set the same prior for the classifier, see `class_prior` of
        :class:`~skcandle.CandleClassifier`.

    Returns
    -------
    score : float
        Minus the log-loss, because scikit-learn's tools select the largest score; at most 0. A
        warning names the labels of `y` that the classifier does not know; their probability is 0,
        which :func:`sklearn.metrics.log_loss` replaces by the smallest positive number of its
        precision.

    Raises
    ------
    ValueError
        If `class_prior` has no frequency for a label of `y`, a negative one, or only zeros.

    See Also
    --------
    joint_accuracy_scorer : Scores the predicted labels.
    skcandle.model_selection.cross_val_predict_proba : Out-of-fold probabilities.

    Notes
    -----
    With the mean log-loss :math:`l_k` of the images of class :math:`k` and its frequency
    :math:`\\pi_k`, the score is :math:`-\\sum_k \\pi_k l_k / \\sum_k \\pi_k` over the classes of
    `y`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from skcandle import CandleClassifier
    >>> from skcandle.metrics import joint_log_loss_scorer
    >>> text = dict(zip(["cat", "cow", "dog", "okapi"], np.eye(4)))
    >>> y = np.repeat(["cat", "cow", "dog"], 4)
    >>> X = np.stack([text[name] for name in y]) + np.random.default_rng(0).normal(size=(12, 4)) / 9
    >>> clf = CandleClassifier(new_classes=["okapi"], text_encoder=text)
    >>> scores = cross_val_score(clf, X, y, cv=2, scoring=joint_log_loss_scorer)
    >>> bool((scores > np.log(1 / 4)).all())  # better than equal probabilities of the four classes
    True
    """
    y = _labels(y, "y")
    classes = np.asarray(_final_estimator(estimator).classes_)
    unknown = _warn_of_unknown(y, classes)
    proba = np.asarray(estimator.predict_proba(X))
    proba = np.hstack([proba, np.zeros((len(proba), len(unknown)), dtype=proba.dtype)])
    labels = np.concatenate([classes, unknown])
    order = np.argsort(labels)
    weight = _prior_weight(y, class_prior)
    return -float(log_loss(y, proba[:, order], labels=labels[order], sample_weight=weight))


def base_new_curve(
    y_true: Labels, y_score: ArrayLike, *, classes: Labels, new_classes: Labels
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base and new accuracy in the joint label space as a function of an offset between them.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, with at least one base class and one new class.

    y_score : array-like of shape (n_samples, n_classes)
        Logits, for example from ``decision_function`` or ``predict_log_proba``, or logarithms of
        probabilities.

    classes : array-like of shape (n_classes,)
        Labels of the columns of `y_score`.

    new_classes : array-like of shape (n_new_classes,)
        Labels of those `classes` that have no training images.

    Returns
    -------
    base_accuracy : ndarray of shape (n_offsets,)
        Class-balanced accuracy over base classes, decreasing.

    new_accuracy : ndarray of shape (n_offsets,)
        Class-balanced accuracy over new classes, increasing from 0.

    offsets : ndarray of shape (n_offsets,)
        Increasing offsets on the scale of `y_score`, starting with ``-inf``. An image is assigned
        to a new class if its best base score exceeds its best new score by at most the offset.

    Raises
    ------
    ValueError
        If `y_true` has no base class or no new class, lengths differ, a label is missing or not in
        `classes`, or `y_score` contains probabilities.

    See Also
    --------
    ausuc_score : The area under this curve.

    Examples
    --------
    >>> from skcandle.metrics import base_new_curve
    >>> y_score = [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.5, 0.0, 2.0]]
    >>> base_new_curve(["a", "b", "c"], y_score, classes=["a", "b", "c"], new_classes=["c"])
    (array([1. , 1. , 0.5, 0. ]), array([0., 1., 1., 1.]), array([-inf, 0.5, 1. , 2. ]))
    """
    y, scores, _, is_new = _check_scores(y_true, y_score, classes, new_classes)
    return _curve(y, scores, is_new)


def ausuc_score(
    y_true: Labels, y_score: ArrayLike, *, classes: Labels, new_classes: Labels
) -> float:
    """Area under the seen-unseen curve, the curve of base against new accuracy.

    It measures how well the scores separate all classes, independently of the offset that the
    classifier uses between base and new classes.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, with at least one base class and one new class.

    y_score : array-like of shape (n_samples, n_classes)
        Logits, for example from ``decision_function`` or ``predict_log_proba``, or logarithms of
        probabilities.

    classes : array-like of shape (n_classes,)
        Labels of the columns of `y_score`.

    new_classes : array-like of shape (n_new_classes,)
        Labels of those `classes` that have no training images.

    Returns
    -------
    score : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `y_true` has no base class or no new class, lengths differ, a label is missing or not in
        `classes`, or `y_score` contains probabilities.

    See Also
    --------
    base_new_curve : The curve.

    Notes
    -----
    This is the area under :func:`base_new_curve` by the trapezoidal rule, with class-balanced
    accuracies [1]_.

    There is no separate function for OpenworldAUC [2]_, because it is nearly the same number: the
    probability that a random image of a base class and a random image of a new class are both
    classified correctly in separate label spaces, and that the detector of base images gives the
    first a higher score. With the difference between best base and best new score as detector, and
    with random classes rather than random images, it equals this area; ties count half.

    References
    ----------
    .. [1] Chao, Changpinyo, Gong and Sha, "An empirical study and analysis of generalized
       zero-shot learning for object recognition in the wild", ECCV 2016.
    .. [2] Hua, Xu, Yang, Wang, Bao and Huang, "OpenworldAUC: Towards unified evaluation and
       optimization for open-world prompt tuning", ICML 2025.

    Examples
    --------
    >>> from skcandle.metrics import ausuc_score
    >>> y_score = [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [4.0, 0.0, 2.5]]
    >>> ausuc_score(["a", "b", "c"], y_score, classes=["a", "b", "c"], new_classes=["c"])
    0.5
    """
    y, scores, _, is_new = _check_scores(y_true, y_score, classes, new_classes)
    base, new, _ = _curve(y, scores, is_new)
    return float(auc(new, base))


def base_new_report(
    y_true: Labels,
    y_score: ArrayLike,
    *,
    classes: Labels,
    new_classes: Labels,
    n_bins: int = 15,
    output_dict: bool = False,
) -> str | dict[str, float]:
    """Accuracy on base and new classes, in separate and in joint label spaces.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, with at least one base class and one new class.

    y_score : array-like of shape (n_samples, n_classes)
        Logits over all classes, for example from ``decision_function`` or ``predict_log_proba``;
        their softmax gives the probabilities.

    classes : array-like of shape (n_classes,)
        Labels of the columns of `y_score`, for example ``classes_`` of the classifier.

    new_classes : array-like of shape (n_new_classes,)
        Labels of those `classes` that have no training images.

    n_bins : int, default=15
        Number of bins of the expected calibration error.

    output_dict : bool, default=False
        Whether to return a dict instead of a text to print.

    Returns
    -------
    report : str or dict
        The keys of the dict are as follows; all values except the log-loss are between 0 and 1.

        * ``"base"``, ``"new"``, ``"harmonic_mean"``: accuracies in separate label spaces and
          their harmonic mean;
        * ``"joint_base"``, ``"joint_new"``, ``"joint_harmonic_mean"``: the same in the joint label
          space;
        * ``"best_joint_harmonic_mean"``: the highest over all offsets between base and new scores,
          an upper bound that needs the test labels;
        * ``"ausuc"``: see :func:`ausuc_score`;
        * ``"log_loss"``, ``"ece"``: quality of the probabilities in the joint label space, over
          all samples, see :func:`sklearn.metrics.log_loss` and :func:`expected_calibration_error`.

    Raises
    ------
    ValueError
        If `y_true` has no base class or no new class, lengths differ, a label is missing or not in
        `classes`, or `y_score` contains probabilities.

    See Also
    --------
    harmonic_mean_score : Computes ``"joint_harmonic_mean"`` from predicted labels.
    shot_band_accuracy : Accuracy by number of training images.

    Examples
    --------
    >>> from skcandle.metrics import base_new_report
    >>> y_score = [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.5, 0.0, 2.0]]
    >>> print(base_new_report(
    ...     ["a", "b", "c"], y_score, classes=["a", "b", "c"], new_classes=["c"]
    ... ))
                             base      new  harmonic mean
    separate spaces         1.000    1.000          1.000
    joint space             1.000    0.000          0.000
    joint, best offset                              1.000
    <BLANKLINE>
    AUSUC 1.000   log-loss 0.534   ECE 0.361
    """
    y, scores, classes, is_new = _check_scores(y_true, y_score, classes, new_classes)
    weight, of_new = _balanced_weight(y, is_new), is_new[y]

    def accuracies(predicted):
        hit = weight * (predicted == y)
        return hit[~of_new].sum(), hit[of_new].sum()

    base_best, new_best, _ = _best_per_side(scores, is_new)
    base, new = accuracies(np.where(of_new, new_best, base_best))
    joint_base, joint_new = accuracies(scores.argmax(axis=1))
    base_curve, new_curve, _ = _curve(y, scores, is_new)
    y_true, proba = classes[y], softmax(scores, axis=1)
    report = {
        "base": base,
        "new": new,
        "harmonic_mean": hmean([base, new]),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": hmean([joint_base, joint_new]),
        "best_joint_harmonic_mean": hmean([base_curve, new_curve]).max(),
        "ausuc": auc(new_curve, base_curve),
        "log_loss": log_loss(y_true, proba, labels=classes),
        "ece": expected_calibration_error(y_true, proba, classes=classes, n_bins=n_bins),
    }
    report = {name: float(value) for name, value in report.items()}
    return report if output_dict else _REPORT.format(**report)


def expected_calibration_error(
    y_true: Labels, y_proba: ArrayLike, *, classes: Labels, n_bins: int = 15
) -> float:
    """Expected calibration error of the predicted class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.

    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities; every row sums to one.

    classes : array-like of shape (n_classes,)
        Labels of the columns of `y_proba`, for example ``classes_`` of the classifier.

    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    error : float
        Between 0 (calibrated) and 1.

    Raises
    ------
    ValueError
        If rows of `y_proba` are not probabilities, `n_bins` is not a positive integer, lengths
        differ, or a label is missing or not in `classes`.

    Notes
    -----
    Samples are binned by the probability of their most probable class. In each bin, the mean
    probability should equal the accuracy; the error is the mean absolute difference between the
    two, weighted by the number of samples in the bin [1]_.

    References
    ----------
    .. [1] Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from skcandle.metrics import expected_calibration_error
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]]
    >>> expected_calibration_error(["a", "b", "b"], y_proba, classes=["a", "b"])
    0.3...
    """
    y_proba = check_array(y_proba, dtype=np.float64, input_name="y_proba")
    if not _is_proba(y_proba):
        raise ValueError(
            "y_proba must contain probabilities: no negative values, and rows that sum to one."
        )
    if not isinstance(n_bins, Integral) or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}.")
    y, y_proba, _ = _check_columns(y_true, y_proba, classes)
    confidence, hit = y_proba.max(axis=1), y_proba.argmax(axis=1) == y
    bins = np.digitize(confidence, np.linspace(0, 1, n_bins + 1)[1:-1], right=True)
    gap = np.bincount(bins, weights=confidence - hit)
    return float(np.abs(gap).sum() / len(y))


def shot_band_accuracy(
    y_true: Labels, y_pred: Labels, *, y_train: Labels, bands: Sequence[int] = (20, 5, 1)
) -> dict[str, float]:
    """Accuracy of classes with many, some, few and no training images.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.

    y_pred : array-like of shape (n_samples,)
        Predicted labels, among all classes.

    y_train : array-like of shape (n_train_samples,)
        Labels of the training images, which are counted.

    bands : sequence of int, default=(20, 5, 1)
        Decreasing lower bounds of the bands, in training images per class. A last band contains the
        classes below, which by default are those without training images.

    Returns
    -------
    accuracy : dict of str to float
        Class-balanced accuracy of each band, between 0 and 1, or ``nan`` if `y_true` has no class
        in the band. The default keys are ``">= 20"``, ``"5 to 19"``, ``"1 to 4"`` and ``"0"``.

    Raises
    ------
    ValueError
        If `bands` are not positive and decreasing, `y_true` is empty, lengths differ, or a label is
        missing.

    Examples
    --------
    >>> from skcandle.metrics import shot_band_accuracy
    >>> y_train = ["cat"] * 30 + ["cow"] * 3
    >>> y_true = ["cat", "cat", "cow", "okapi"]
    >>> y_pred = ["cat", "cow", "cow", "cat"]
    >>> shot_band_accuracy(y_true, y_pred, y_train=y_train)
    {'>= 20': 0.5, '5 to 19': nan, '1 to 4': 1.0, '0': 0.0}
    """
    edges = list(bands)
    if not edges or any(b >= a for a, b in pairwise(edges)) or edges[-1] < 1:
        raise ValueError(f"bands must be positive and decreasing, got {bands!r}.")
    present, recall = _recall(y_true, y_pred)
    y_train = _labels(y_train, "y_train")
    shots = np.array([np.count_nonzero(y_train == label) for label in present])
    accuracy = {}
    for end, low in pairwise([np.inf, *edges, 0]):
        inside = (shots >= low) & (shots < end)
        accuracy[_band_name(low, end)] = float(recall[inside].mean()) if inside.any() else np.nan
    return accuracy


def _band_name(low, end):
    if end == np.inf:
        return f">= {low}"
    return f"{low}" if end == low + 1 else f"{low} to {end - 1}"


def _labels(labels, name):
    """Labels as an array; errors name the parameter."""
    if isinstance(labels, str):
        raise TypeError(f"{name} must be a list of labels, got the single string {labels!r}.")
    return label_array(labels, name)


def _warn_of_unknown(y, classes):
    """Return the labels of `y` that a classifier does not know; a warning names them."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        warn_user(
            f"The labels {_some(unknown)} of y are not among the classes_ of the classifier, so it "
            "cannot predict them. List all classes in its class_names.",
            UndefinedMetricWarning,
        )
    return unknown


def _prior_weight(y, class_prior):
    """Weights of samples for which each class of `y` counts as much as a prior says."""
    present, position, counts = np.unique(y, return_inverse=True, return_counts=True)
    if class_prior is None:
        return (1 / counts)[position]
    lacking = [label for label in present.tolist() if label not in class_prior]
    if lacking:
        raise ValueError(f"class_prior has no frequency for the label {lacking[0]!r} of y. Add it.")
    frequency = np.array([class_prior[label] for label in present.tolist()], dtype=float)
    if not np.isfinite(frequency).all() or frequency.min() < 0 or not frequency.any():
        raise ValueError(
            "The frequencies in class_prior must be finite and not negative, and one of them "
            f"positive, got {frequency.tolist()} for the labels of y."
        )
    return (frequency / counts)[position]


def _recall(y_true, y_pred):
    """The classes that occur in `y_true`, and the recall of each."""
    y_true, y_pred = _labels(y_true, "y_true"), _labels(y_pred, "y_pred")
    if not len(y_true):
        raise ValueError("y_true must not be empty.")
    present = np.unique(y_true)
    return present, recall_score(y_true, y_pred, labels=present, average=None)


def _check_columns(y_true, columns, classes):
    """Labels as indices into the sorted classes, and the columns in that order."""
    y_true, classes = _labels(y_true, "y_true"), _labels(classes, "classes")
    check_consistent_length(y_true, columns)
    if len(np.unique(classes)) < len(classes):
        raise ValueError("classes must not repeat a label.")
    if len(classes) != columns.shape[1]:
        raise ValueError(
            f"classes must have one label per column, got {len(classes)} labels for "
            f"{columns.shape[1]} columns."
        )
    unknown = np.setdiff1d(y_true, classes)
    if len(unknown):
        raise ValueError(f"y_true contains labels that are not in classes: {_some(unknown)}.")
    order = np.argsort(classes)
    return np.searchsorted(classes[order], y_true), columns[:, order], classes[order]


def _check_scores(y_true, y_score, classes, new_classes):
    scores = np.asarray(y_score, dtype=np.float64)
    # the logarithm of a probability of zero
    scores = np.where(np.isneginf(scores), np.log(np.finfo(scores.dtype).tiny), scores)
    scores = check_array(scores, input_name="y_score")
    if _is_proba(scores):
        raise ValueError(
            "y_score must contain logits, not probabilities. Use decision_function or "
            "predict_log_proba, or take the logarithm."
        )
    y, scores, classes = _check_columns(y_true, scores, classes)
    new_classes = _labels(new_classes, "new_classes")
    unknown = np.setdiff1d(new_classes, classes)
    if len(unknown):
        raise ValueError(f"new_classes contains labels that are not in classes: {_some(unknown)}.")
    is_new = np.isin(classes, new_classes)
    for side, members in (("base", ~is_new), ("new", is_new)):
        if not members[y].any():
            raise ValueError(f"y_true must have samples of a {side} class.")
    return y, scores, classes, is_new


def _is_proba(scores):
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-4))


def _some(labels, limit=5):
    shown = [repr(label) for label in labels[:limit].tolist()]
    return ", ".join(shown if len(labels) <= limit else [*shown, "..."])


def _balanced_weight(y, is_new):
    """Weights for which correct predictions sum to class-balanced accuracies."""
    counts = np.bincount(y, minlength=len(is_new))
    n_new = np.count_nonzero(counts[is_new])
    n_base = np.count_nonzero(counts[~is_new])
    return 1 / (counts[y] * np.where(is_new, n_new, n_base)[y])


def _best_per_side(scores, is_new):
    """Best base class, best new class, and the difference of their scores."""
    base, new = np.where(is_new, -np.inf, scores), np.where(is_new, scores, -np.inf)
    return base.argmax(axis=1), new.argmax(axis=1), base.max(axis=1) - new.max(axis=1)


def _curve(y, scores, is_new):
    base_best, new_best, gap = _best_per_side(scores, is_new)
    weight = _balanced_weight(y, is_new)
    order = np.argsort(gap)
    lost, won = (weight * (base_best == y))[order], (weight * (new_best == y))[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(gap[order])), len(y) - 1)
    base = lost.sum() - np.append(0, np.cumsum(lost)[last_of_tie])
    new = np.append(0, np.cumsum(won)[last_of_tie])
    return np.maximum(base, 0), new, np.append(-np.inf, gap[order][last_of_tie])


def _final_estimator(estimator):
    """The classifier at the end of pipelines and searches."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator
