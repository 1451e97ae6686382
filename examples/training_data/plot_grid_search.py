"""
Temperature and margin, chosen on classes without images
========================================================

Parameters that suit classes with images need not suit classes without. Cross-validation with
``NewClassSplit`` hides whole classes from training in each fold. An ordinary ``GridSearchCV`` can
then choose parameters for new classes before there is a single image of them.

We use two scores. The harmonic mean of base and new accuracy depends on the balance between the
two, which the margin sets. The log-loss depends on accurate probabilities, so the temperature
matters as well.
"""

# %%
# The task
# --------
# Half of the images are training images, in a long tail. A third of the classes is set aside: they
# have a name but no training images, and are not used in the search.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji, make_long_tailed
from skcandle.metrics import harmonic_mean_scorer, joint_log_loss_scorer
from skcandle.model_selection import NewClassSplit, base_new_split

emoji = load_emoji()
labels, counts = np.unique(emoji.target, return_counts=True)
several = np.flatnonzero(np.isin(emoji.target, labels[counts >= 15]))
train, test = train_test_split(
    several, test_size=0.5, stratify=emoji.target[several], random_state=0
)
base_classes, new_classes = base_new_split(
    emoji.target[several], new_fraction=1 / 3, random_state=0
)
train = train[np.isin(emoji.target[train], base_classes)]
train = train[make_long_tailed(emoji.target[train], n_max=20, imbalance_ratio=0.1, random_state=0)]
X_train, y_train = [emoji.images[i] for i in train], emoji.target[train]
X_test, y_test = [emoji.images[i] for i in test], emoji.target[test]
print(
    f"{len(base_classes)} base classes with {len(train)} training images, "
    f"{len(new_classes)} new classes, {len(test)} test images"
)

# %%
# The search
# ----------
# `class_names` is the label universe. In each fold, it also contains the hidden classes, which have
# no images. They are the new classes of that fold, together with those that are new in all folds.

universe = sorted([*base_classes, *new_classes])
pipe = make_candle_pipeline("emoji-clip", class_names=universe)
search = GridSearchCV(
    pipe,
    {
        "candle__temperature": [0.0025, 0.005, 0.01, 0.02, 0.04],
        "candle__margin": [0.0, 0.5, 1.0, 1.5, 2.0],
    },
    cv=NewClassSplit(n_splits=3, random_state=0),
    scoring={"harmonic mean": harmonic_mean_scorer, "log-loss": joint_log_loss_scorer},
    refit="log-loss",
)
start = time.perf_counter()
search.fit(X_train, y_train)
seconds = time.perf_counter() - start
n_fits = len(search.cv_results_["params"]) * search.n_splits_ + 1
print(f"{n_fits} fits in {seconds:.0f} s; each image was encoded once")
print(f"smallest log-loss in cross-validation: {search.best_params_}")

# %%
# The search used only training images. The defaults, which are estimated from the training images
# in a similar way, are a little better on the test images:

default = pipe.fit(X_train, y_train)
print("\ntest images, joint space   harmonic mean   log-loss")
for name, fitted in (("defaults", default), ("chosen", search)):
    harmonic_mean = harmonic_mean_scorer(fitted, X_test, y_test)
    loss = -joint_log_loss_scorer(fitted, X_test, y_test)
    print(f"{name:<25} {harmonic_mean:14.3f} {loss:10.3f}")

# %%
# The whole grid
# --------------
# Frames mark the best value of each score.

temperatures = search.param_grid["candle__temperature"]
margins = search.param_grid["candle__margin"]
# GridSearchCV varies the alphabetically last parameter fastest
shape = len(margins), len(temperatures)
panels = {
    "harmonic mean of base and new accuracy (%)": (100, "harmonic mean", "{:.1f}"),
    "log-loss": (-1, "log-loss", "{:.2f}"),
}
figure, grid = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
for axes, (title, (factor, score, form)) in zip(grid, panels.items(), strict=True):
    values = factor * search.cv_results_[f"mean_test_{score}"].reshape(shape).T
    better = values if factor > 0 else -values
    image = axes.imshow(better, cmap="cividis", aspect="auto")
    for i, j in np.ndindex(values.shape):
        dark = image.norm(better[i, j]) < 0.5
        colour = "white" if dark else "black"
        axes.text(j, i, form.format(values[i, j]), ha="center", va="center", color=colour)
    i, j = np.unravel_index(better.argmax(), better.shape)
    axes.add_patch(plt.Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, ec="#D55E00", lw=3))
    axes.set_xticks(range(len(margins)), margins)
    axes.set_yticks(range(len(temperatures)), temperatures)
    axes.set(xlabel="margin", title=title)
grid[0].set_ylabel("temperature")
figure.suptitle("Seen and hidden classes, mean over the folds")
figure.savefig("grid_search.png", dpi=110)
print(f"\nfigure: {Path('grid_search.png').resolve()}")
