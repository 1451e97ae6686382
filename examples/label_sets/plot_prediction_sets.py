"""
Calibrated probabilities and prediction sets
============================================

Are predictions with a probability of 80 % correct four times out of five? And if one prediction is
not enough, which sets of classes contain the correct class in 90 % of cases? This example answers
both questions, for classes with training images and for classes known only by name. The sets come
from ``predict_set`` and from `MAPIE <https://mapie.readthedocs.io>`_, a library for conformal
prediction.
"""

# %%
# Sixty classes with images, forty without
# ----------------------------------------
# We draw five random tasks from the emoji. A third of the images of the sixty classes and all
# images of the forty are for testing. Predictions are among all hundred classes.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from mapie.classification import SplitConformalClassifier
from matplotlib.ticker import PercentFormatter
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.inspection import ReliabilityDisplay
from skcandle.metrics import expected_calibration_error

emoji = load_emoji()
y = emoji.target
images = np.empty(len(y), dtype=object)  # MAPIE does not accept lists of images
images[:] = emoji.images
labels, counts = np.unique(y, return_counts=True)


def draw(seed):
    """Positions of training images and of test images, by kind of class; the new classes."""
    rng = np.random.default_rng(seed)
    base = rng.choice(labels[counts >= 6], 60, replace=False)
    new = rng.choice(np.setdiff1d(labels, base), 40, replace=False)
    rows = np.flatnonzero(np.isin(y, base))
    train, test = train_test_split(rows, test_size=1 / 3, stratify=y[rows], random_state=seed)
    return train, {"with images": test, "by name only": np.flatnonzero(np.isin(y, new))}, new


def fit(rows, new):
    pipe = make_candle_pipeline("emoji-clip", new_classes=new.tolist(), random_state=0)
    return pipe.fit(images[rows], y[rows])


draws = [draw(seed) for seed in range(5)]
pipes = [fit(train, new) for train, _, new in draws]

# %%
# Probabilities
# -------------
# The expected calibration error is the mean distance between confidence and accuracy.

errors = {"with images": [], "by name only": []}
for pipe, (_, tests, _) in zip(pipes, draws, strict=True):
    for kind, test in tests.items():
        proba = pipe.predict_proba(images[test])
        errors[kind].append(expected_calibration_error(y[test], proba, classes=pipe.classes_))
for kind, values in errors.items():
    print(
        f"classes {kind:<13}  calibration error {np.mean(values):.1%} "
        f"({min(values):.1%} to {max(values):.1%})"
    )

# %%
# Accuracy by confidence in the last draw:

figure, both = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
for axes, (kind, test) in zip(both, tests.items(), strict=True):
    ReliabilityDisplay.from_estimator(pipe, images[test], y[test], ax=axes)
    axes.set_title(f"Test images of classes {kind}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)

# %%
# Sets
# ----
# ``predict_set`` calibrates its sets on the training images. MAPIE needs held-out images, here half
# of them, so that its classifier learns only from the other half. MAPIE tests a fitted classifier
# on a row of zeros, which is not an image embedding, so we wrap the pipeline in scikit-learn's
# ``FrozenEstimator``.
#
# MAPIE's guarantee holds for images like the held-out ones, but not for classes without images, and
# it warns about them.

warnings.filterwarnings("ignore", ".*your conformalization dataset has less labels")


def conformal(train, new, seed):
    rest, aside = train_test_split(train, test_size=1 / 2, stratify=y[train], random_state=seed)
    mapie = SplitConformalClassifier(FrozenEstimator(fit(rest, new)), confidence_level=0.9)
    return mapie.conformalize(images[aside], y[aside])


kinds, methods = ["with images", "by name only"], ["predict_set", "MAPIE"]
coverage, size, accuracy = np.zeros((3, 2, 2, len(draws)))  # by kind of class, method, draw
for seed, (train, tests, new) in enumerate(draws):
    pipe, mapie = pipes[seed], conformal(train, new, seed)
    for i, test in enumerate(tests.values()):
        right = np.searchsorted(pipe.classes_, y[test])
        answers_of_mapie, sets_of_mapie = mapie.predict_set(images[test])
        own = pipe.predict(images[test]), pipe.predict_set(images[test], confidence_level=0.9)
        for j, (answers, sets) in enumerate((own, (answers_of_mapie, sets_of_mapie[:, :, 0]))):
            coverage[i, j, seed] = sets[np.arange(len(test)), right].mean()
            size[i, j, seed] = sets.sum(axis=1).mean()
            accuracy[i, j, seed] = np.mean(answers == y[test])

print("classes        sets of      correct class in set classes in set         accuracy")
for i, kind in enumerate(kinds):
    for j, method in enumerate(methods):
        shares = coverage[i, j]
        print(
            f"{kind:<15}{method:<12}{shares.mean():8.1%} ({shares.min():.0%} to "
            f"{shares.max():.0%}){size[i, j].mean():15.1f}{accuracy[i, j].mean():17.1%}"
        )

# %%
# Each dot is a draw, and each line is a mean. Sets that cover more than requested are larger than
# necessary; sets that cover less break their guarantee.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for axes, values in ((left, coverage), (right, size)):
    for j, (method, color, marker) in enumerate(
        zip(methods, ("#0072B2", "#D55E00"), "os", strict=True)
    ):
        for i in range(2):
            at = i + 0.2 * (j - 0.5)
            axes.scatter(
                np.full(len(draws), at),
                values[i, j],
                color=color,
                marker=marker,
                alpha=0.6,
                label=method if i == 0 else None,
            )
            axes.hlines(values[i, j].mean(), at - 0.08, at + 0.08, color, lw=2.5)
    axes.set_xticks([0, 1], [f"classes\n{kind}" for kind in kinds])
    axes.set_xlim(-0.5, 1.5)
    axes.spines[["top", "right"]].set_visible(False)
left.axhline(0.9, color="black", ls="--", lw=1, label="requested")
left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
left.set(ylabel="sets with the correct class", title="Coverage")
left.legend(frameon=False)
right.set(ylabel="classes in a set", title="Size", ylim=(0, None))
plt.show()
