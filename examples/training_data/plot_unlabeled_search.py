"""
Do images without labels help? Cross-validation without a leak
==============================================================

``add_unlabeled`` learns from images without labels. Whether they help depends on the data, and
labelled images can tell. This needs some care: if the images of a test fold are among the
unlabelled ones, the score is that of images which the classifier has learned from.

The rule is simple. Keep the unlabelled images outside of the folds, and give each fold the same
ones. Then neither the labels nor the images of a test fold have any influence on the classifier.
"""

# %%
# The task
# --------
# Three images each of 70 kinds of emoji have a label. The others have none.

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji

emoji = load_emoji()
kinds, counts = np.unique(emoji.target, return_counts=True)
chosen = np.flatnonzero(np.isin(emoji.target, kinds[counts >= 9]))
chosen = np.random.default_rng(0).permutation(chosen)
y = emoji.target[chosen]
n_earlier = np.array([np.sum(y[:i] == y[i]) for i in range(len(y))])  # of the same kind
is_labelled = n_earlier < 3

clip = CLIPFeaturizer("emoji-clip")
embeddings = clip.transform([emoji.images[i] for i in chosen])
X, y = embeddings[is_labelled], y[is_labelled]
X_unlabelled = embeddings[~is_labelled]
print(f"{len(X)} images with labels, {len(X_unlabelled)} without")


# %%
# A classifier that learns from both
# ----------------------------------
# This small class fits a classifier, then adds the unlabelled images. The tools of scikit-learn
# split `X` and `y` only, so that all folds get the same unlabelled images.


class WithUnlabeled(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier that also learns from the images without labels in `unlabeled`."""

    def __init__(self, estimator, unlabeled):
        self.estimator = estimator
        self.unlabeled = unlabeled

    def fit(self, X, y):
        self.estimator_ = clone(self.estimator).fit(X, y).add_unlabeled(self.unlabeled)
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        return self.estimator_.predict(X)

    def predict_proba(self, X):
        return self.estimator_.predict_proba(X)


# %%
# Do they help?
# -------------
# A search can choose between no unlabelled image and all of them, like any other parameter.

candle = CandleClassifier(text_encoder=clip)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(
    WithUnlabeled(candle, X_unlabelled),
    {"unlabeled": [X_unlabelled[:0], X_unlabelled]},
    cv=folds,
    scoring=["accuracy", "neg_log_loss"],
    refit="neg_log_loss",
).fit(X, y)
results = zip(
    ["labelled images only", "with unlabelled images"],
    search.cv_results_["mean_test_accuracy"],
    -search.cv_results_["mean_test_neg_log_loss"],
    strict=True,
)
for name, accuracy, loss in results:
    print(f"{name:<24} accuracy {accuracy:.3f}   log-loss {loss:.3f}")
print(f"the search kept {len(search.best_params_['unlabeled'])} unlabelled images")

# %%
# When test images may be added
# -----------------------------
# If you will add the very images that you want answers for, as ``skcandle predict --adapt`` does,
# the score should say how well this works. Then add the images of the test fold as well, still
# without their labels. This score does not hold for images that come later.

with_test_images = WithUnlabeled(candle, np.concatenate([X_unlabelled, X]))
scores = cross_val_score(with_test_images, X, y, cv=folds)
print(f"test images among the unlabelled ones: accuracy {scores.mean():.3f}")
