"""What the classifier says beside its answer: how new an image looks, and sets of classes."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from .._warnings import warn_user
from ._base import BaseCandle
from ._embeddings import unit
from ._held_out import HeldOutScores, signals_of
from ._missing_images import warn_left_out

# Unlabelled images that are less probably of a listed class, on average, are the wrong ones.
FEW_LISTED = 0.1


class SelectivePrediction(BaseCandle):
    """Methods of a CandleClassifier that rest on its scores of held-out images."""

    _held_out: HeldOutScores

    def novelty_score(
        self, X: ArrayLike, *, return_is_new: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        r"""Score how little images look like any of the `classes_`.

        `margin` and `class_prior` have no effect on it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images, see :meth:`predict`.
        return_is_new : bool, default=False
            Whether to return `is_new` as well.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Higher for images that look less like any class, base or new. It is the log-odds that
            the class is not listed, for a prior probability of 1/2. NaN for images that could not
            be read.
        is_new : ndarray of shape (n_samples,) of bool
            Whether the class of the largest logit, for equally frequent classes, is a new one. It
            selects which of the :meth:`novelty_thresholds` applies.

        See Also
        --------
        novelty_thresholds : Scores above which images may be rejected.
        skcandle.RejectingClassifier : Adds an answer for "none of these".

        Notes
        -----
        A logistic regression on two signals: the largest joint logit (for equally frequent
        classes), and the largest similarity to a text or, without text, half the squared length
        in whitened coordinates. It is fitted on held-out training images, with their class in the
        universe and with their class removed. After a fit on names alone, there are no such images,
        and the score is no log-odds: it is minus the largest similarity to a text, divided by the
        temperature. The largest logit alone is the score of [1]_, the
        largest text similarity that of [2]_ without softmax.

        References
        ----------
        .. [1] D. Hendrycks et al.: "Scaling out-of-distribution detection for real-world
           settings", ICML 2022. arXiv:1911.11132.
        .. [2] Y. Ming et al.: "Delving into out-of-distribution detection with vision-language
           representations", NeurIPS 2022. arXiv:2211.13445.
        """
        check_is_fitted(self)
        score, is_new = [], []
        for _, _, block, logits in self._blocks(X):
            if self.text_features_ is None:
                other = self._model.half_squares(block)
            else:
                other = unit(block) @ self.text_features_.T
            score.append(self._held_out.novelty_of(signals_of(logits, other)))
            is_new.append(self.is_new_[logits.argmax(axis=1)])
        if return_is_new:
            return np.concatenate(score), np.concatenate(is_new)
        return np.concatenate(score)

    def novelty_thresholds(self, rejection_rate: float = 0.05) -> np.ndarray:
        """Novelty scores above which images may be rejected.

        They come from the held-out images of the last fit, so views and copies have the same
        thresholds. After :meth:`add_classes`, the rate is kept. A class that got its first images
        from :meth:`add_images` may be rejected more often, and there is a warning.

        Parameters
        ----------
        rejection_rate : float, default=0.05
            Share of images *of* listed classes, in (0, 1), whose score exceeds the threshold. All
            classes count the same.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            The first for images that look most like a base class, the second for images that look
            most like a new class; see `return_is_new` of :meth:`novelty_score`. Infinite, with a
            warning, where no held-out image shows how images of such classes score: the first if
            no class has two images, both if only one class has images.

        Raises
        ------
        ValueError
            If `rejection_rate` is not in (0, 1).

        See Also
        --------
        skcandle.RejectingClassifier : Uses the thresholds, and explains how they are chosen.
        """
        check_is_fitted(self)
        n_base_classes = int(np.count_nonzero(self._model.counts))
        return self._held_out.novelty_thresholds(rejection_rate, self._kinds, n_base_classes)

    def predict_set(self, X: ArrayLike, confidence_level: float = 0.9) -> np.ndarray:
        r"""Predict sets of classes that contain the correct one with a given probability.

        The set of an image contains the classes whose logit is not too far below the largest one.
        How far is chosen so that the sets of the given share of held-out training images contain
        their class. There is one distance for base classes and one for new classes, which comes
        from classes that are treated as new. `margin` and `class_prior` have no effect, because the
        share holds for base classes and for new classes separately, with equal weights for the
        classes of each kind.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images, see :meth:`predict`.
        confidence_level : float, default=0.9
            Share of images, in (0, 1), whose set should contain their class.

        Returns
        -------
        sets : ndarray of shape (n_samples, n_classes) of bool
            Columns follow `classes_`. Every set has at least one class, except that the set of an
            image that could not be read is empty.

        Raises
        ------
        ValueError
            If `confidence_level` is not in (0, 1).

        Notes
        -----
        This is split conformal prediction [1]_ for each kind of class, with held-out training
        images as the calibration set. The weights of the logits were estimated on the same images,
        but these are only four numbers. *n* images, as Kish's effective number, cannot resolve
        levels above *n* / (*n* + 1). In this case every set contains all classes, and there is a
        warning. If only one class has images, no class can be treated as new, so every set contains
        all new classes, with a warning.

        References
        ----------
        .. [1] V. Vovk, A. Gammerman, G. Shafer: "Algorithmic learning in a random world", 2005.

        Examples
        --------
        >>> import numpy as np
        >>> from skcandle import CandleClassifier
        >>> rng = np.random.default_rng(0)
        >>> names = ["ant", "bee", "cat", "dog", "elk"]
        >>> text = dict(zip(names, rng.normal(size=(5, 16))))
        >>> y = np.repeat(names[:4], [20, 10, 10, 5])   # no image of an elk
        >>> X = np.stack([text[name] for name in y]) + rng.normal(size=(45, 16))
        >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, y)
        >>> sets = clf.predict_set([text["bee"], text["elk"]], confidence_level=0.8)
        >>> [clf.classes_[s].tolist() for s in sets]
        [['bee'], ['elk']]
        """
        check_is_fitted(self)
        thresholds = self._held_out.gap_thresholds(confidence_level, self._kinds)
        widest = thresholds[self.is_new_.astype(int)]
        sets = [
            logits.max(axis=1, keepdims=True) - logits <= widest for *_, logits in self._blocks(X)
        ]
        return np.concatenate(sets)

    def _probably_listed(self, X):
        """Probability that the class of each image is listed, 0 for images that are left out.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Checked rows.

        Returns
        -------
        listed : ndarray of shape (n_samples,)
        """
        score = np.asarray(self.novelty_score(X))
        missing = np.isnan(score)
        if missing.any():
            warn_left_out(missing)
        # names alone do not show what images of other classes look like
        listed = expit(-score) if self._held_out.n_images else np.ones_like(score)
        listed = np.where(missing, 0, listed)
        share = listed[~missing].mean()
        if share < FEW_LISTED:
            warn_user(
                f"Most unlabelled images look like none of the {len(self.classes_)} classes: on "
                f"average, the probability that the class is listed is {share:.2g}. They teach "
                "next to nothing. Check that X comes from the model of the fit, and add the names "
                "of missing classes with add_classes."
            )
        return listed

    @property
    def _kinds(self):
        """Whether there are base classes, and new classes."""
        return np.array([not self.is_new_.all(), self.is_new_.any()])
