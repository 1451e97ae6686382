"""
A long tail, and what the margin does
=====================================

Some classes have twenty images, and some have one. ``margin`` states which class frequencies to
predict for: 0 means the frequencies of training, and 1 means that all classes are equally frequent.
The former helps frequent classes, and the latter helps rare ones.
"""

# %%
# The task
# --------
# We use the emoji classes with at least 15 images. Half of the images are for testing. The others
# form a long tail, in ten random orders of the classes.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji, make_long_tailed
from skcandle.metrics import shot_band_accuracy

MARGINS = [0.0, 0.5, 1.0, 1.5, 2.0]
BANDS = {"8 images or more": 8, "2 to 7": 2, "one image": 1}
N_DRAWS = 10

emoji = load_emoji()
labels, counts = np.unique(emoji.target, return_counts=True)
chosen = np.flatnonzero(np.isin(emoji.target, labels[counts >= 15]))
y = emoji.target[chosen]
clip = CLIPFeaturizer("emoji-clip")
X = clip.transform([emoji.images[i] for i in chosen])
print(f"{len(np.unique(y))} classes, {len(y)} images")

# %%
# Accuracy of head and tail
# -------------------------
# The images are encoded once, and a fit on the embeddings takes a fraction of a second.

accuracy = np.zeros((N_DRAWS, len(MARGINS), len(BANDS)))
for draw in range(N_DRAWS):
    train, test = train_test_split(np.arange(len(y)), test_size=0.5, stratify=y, random_state=draw)
    tail = make_long_tailed(y[train], n_max=16, imbalance_ratio=1 / 16, random_state=draw)
    train = train[tail]
    fitted = CandleClassifier(text_encoder=clip).fit(X[train], y[train])
    for i, margin in enumerate(MARGINS):
        # frequencies (n + 1)^(1 - margin) can be set after the fit, without training again
        weights = (fitted.class_count_ + 1) ** (1 - margin)
        answers = fitted.with_prior(weights / weights.sum()).predict(X[test])
        found = shot_band_accuracy(y[test], answers, y_train=y[train], bands=tuple(BANDS.values()))
        accuracy[draw, i] = [100 * value for value in list(found.values())[: len(BANDS)]]

mean = accuracy.mean(axis=0)
half = 2.26 * accuracy.std(axis=0, ddof=1) / np.sqrt(N_DRAWS)  # t, 9 degrees of freedom
print("margin  " + "".join(f"{name:>20}" for name in BANDS))
for margin, row, interval in zip(MARGINS, mean, half, strict=True):
    cells = (f"{m:.1f} ± {h:.1f}" for m, h in zip(row, interval, strict=True))
    print(f"{margin:<8}" + "".join(f"{cell:>20}" for cell in cells))

# %%
# The figure
# ----------
# Means over ten draws with 95 % intervals. The default margin is 1.

colours = ["#555555", "#E69F00", "#0072B2"]
figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
for j, (name, colour) in enumerate(zip(BANDS, colours, strict=True)):
    axes.errorbar(
        MARGINS, mean[:, j], half[:, j], color=colour, marker="o", lw=2.2, capsize=3, label=name
    )
axes.axvline(1, color="#BBBBBB", lw=1, ls=":", zorder=0)
axes.set(xlabel="margin", ylabel="accuracy (%)", title="Head and tail, by margin")
axes.set_xticks(MARGINS)
axes.legend(title="training images of the class", frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
