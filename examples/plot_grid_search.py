"""
Temperature and margin, chosen on classes without images
========================================================

What is good for classes with images need not be good for those without. Cross-validation with
``NewClassSplit`` hides whole classes from training in each fold, and ``harmonic_mean_scorer`` asks
for accuracy on seen and hidden classes alike. So an ordinary ``GridSearchCV`` chooses parameters
for new classes, before there is a single image of them.
"""

# %%
# The task
# --------
# Half of the images are training images, long-tailed. A third of the classes is put away: they
# have a name and no training image, and take no part in the search.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split

from skcandle import NewClassSplit, make_candle_pipeline
from skcandle.datasets import load_emoji, make_long_tailed
from skcandle.metrics import harmonic_mean_scorer
from skcandle.model_selection import base_new_split

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
# `class_names` is the label universe. In a fold, the hidden classes are in it without images: they
# are new classes of that fold, together with those that are new to all.

universe = [*base_classes, *new_classes]
pipe = make_candle_pipeline("emoji-tiny", class_names=universe, random_state=0)
search = GridSearchCV(
    pipe,
    {
        "candle__temperature": [0.003, 0.01, 0.03, 0.1],
        "candle__margin": [0.0, 1.0, 2.0],
    },
    cv=NewClassSplit(n_splits=3, random_state=0),
    scoring=harmonic_mean_scorer,
)
start = time.perf_counter()
search.fit(X_train, y_train)
seconds = time.perf_counter() - start
n_fits = len(search.cv_results_["params"]) * search.n_splits_ + 1
print(f"{n_fits} fits in {seconds:.0f} s; each image was encoded once")
print(f"best: {search.best_params_}, harmonic mean {search.best_score_:.3f} in cross-validation")
spread = search.cv_results_["std_test_score"][search.best_index_]
print(f"(standard deviation over the folds {spread:.3f}: smaller differences mean little)")

# %%
# The choice was made on training images alone. On the test images, beside the defaults:

default = pipe.fit(X_train, y_train)
print("\nharmonic mean of base and new accuracy, test images, joint space")
print(f"defaults  {harmonic_mean_scorer(default, X_test, y_test):.3f}")
print(f"chosen    {harmonic_mean_scorer(search, X_test, y_test):.3f}")

# %%
# The whole grid
# --------------

temperatures = search.param_grid["candle__temperature"]
margins = search.param_grid["candle__margin"]
results = {
    (params["candle__temperature"], params["candle__margin"]): score
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    )
}
grid = 100 * np.array([[results[t, m] for m in margins] for t in temperatures])

figure, axes = plt.subplots(figsize=(6.2, 4.8), layout="constrained")
# Colours span the spread over the folds at least, so that noise does not look like a pattern.
low, high = min(grid.min(), grid.max() - 100 * spread), grid.max()
image = axes.imshow(grid, cmap="cividis", vmin=low, vmax=high, aspect="auto")
figure.colorbar(image, label="harmonic mean (%), mean of the folds")
for i, j in np.ndindex(grid.shape):
    colour = "white" if grid[i, j] < (low + high) / 2 else "black"
    axes.text(j, i, f"{grid[i, j]:.1f}", ha="center", va="center", color=colour)
best = (
    margins.index(search.best_params_["candle__margin"]),
    temperatures.index(search.best_params_["candle__temperature"]),
)
axes.add_patch(
    plt.Rectangle((best[0] - 0.47, best[1] - 0.47), 0.94, 0.94, fill=False, ec="#D55E00", lw=3)
)
axes.set_xticks(range(len(margins)), margins)
axes.set_yticks(range(len(temperatures)), temperatures)
axes.set(xlabel="margin", ylabel="temperature", title="Seen and hidden classes (frame: best)")
figure.savefig("grid_search.png", dpi=110)
print(f"\nfigure: {Path('grid_search.png').resolve()}")
