"""
A long tail of emoji, and classes without an image
==================================================

152 classes of emoji. Two thirds of them have training images, from 25 for the first to a single
one for the last; the other third has names and nothing else. One pipeline learns from the former
and answers with all 152.

The model is ``emoji-clip``, which comes with the library, so nothing is downloaded. Its
captions held the names of all classes, for drawings in other styles: a class that is new to the
classifier is not new to CLIP, as is the rule with larger models.
"""

# %%
# The task
# --------
# A third of the images of each class is for testing. A third of the classes becomes new: their
# training images are put away. Of the rest, a long tail is drawn, with the most images for the
# classes that have most.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcandle import CLIPFeaturizer, make_candle_pipeline
from skcandle.datasets import load_emoji, make_long_tailed
from skcandle.metrics import base_new_report, shot_band_accuracy
from skcandle.model_selection import base_new_split

emoji = load_emoji()
train, test = train_test_split(
    np.arange(len(emoji.target)), test_size=1 / 3, stratify=emoji.target, random_state=0
)
base_classes, new_classes = base_new_split(emoji.target, new_fraction=1 / 3, random_state=0)

train = train[np.isin(emoji.target[train], base_classes)]
labels, counts = np.unique(emoji.target[train], return_counts=True)
largest_first = labels[np.argsort(-counts, kind="stable")]
train = train[
    make_long_tailed(
        emoji.target[train], n_max=25, imbalance_ratio=1 / 25, order=largest_first, random_state=0
    )
]

X_train, y_train = [emoji.images[i] for i in train], emoji.target[train]
X_test, y_test = [emoji.images[i] for i in test], emoji.target[test]
labels, counts = np.unique(y_train, return_counts=True)
print(
    f"{len(base_classes)} base classes with {counts.max()} to {counts.min()} training images "
    f"({len(train)} in total), {len(new_classes)} new classes with none; {len(test)} test images"
)

# %%
# Fit
# ---
# Nothing is tuned: all parameters are defaults.

start = time.perf_counter()
pipe = make_candle_pipeline("emoji-clip", new_classes=new_classes.tolist(), random_state=0)
pipe.fit(X_train, y_train)
print(f"fitted in {time.perf_counter() - start:.0f} s, images and text encoded")

# %%
# Two things to compare with, on the same embeddings: CLIP as it is (the class whose name is most
# similar to the image), which needs no training, and logistic regression, which knows nothing of
# names.

clip = CLIPFeaturizer("emoji-clip")
names = pipe.classes_
text = clip.encode_text([f"a photo of a {name}." for name in names])

regression = make_pipeline(
    clip, StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
)
regression.fit(X_train, y_train)

# Logits of all methods over all classes. To logistic regression, new classes are impossible.
regression_scores = np.full((len(X_test), len(names)), -np.inf)
regression_scores[:, np.isin(names, regression.classes_)] = regression.predict_log_proba(X_test)
scores = {
    "zero-shot CLIP": 100 * clip.transform(X_test) @ text.T,
    "logistic regression": regression_scores,
    "Candle": pipe.predict_log_proba(X_test),
}

# %%
# Results
# -------
# Accuracies are means over classes. In *separate* spaces an image of a base class is to be told
# from base classes only, and one of a new class from new classes only; in the *joint* space
# every image is to be told from all 152 classes, which is what ``predict`` does. Logistic
# regression never answers with a new class: it gets none of their images right, and mistakes no
# image of a base class for one of them.

print("\naccuracy in %          separate spaces    joint space")
print("                        base      new     base      new   harmonic mean")
for method, score in scores.items():
    report = base_new_report(
        y_test, score, classes=names, new_classes=new_classes, output_dict=True
    )
    columns = ("base", "new", "joint_base", "joint_new", "joint_harmonic_mean")
    base, new, joint_base, joint_new, harmonic_mean = (100 * report[key] for key in columns)
    print(
        f"{method:<20}{base:8.1f} {new:8.1f} {joint_base:8.1f} {joint_new:8.1f} "
        f"{harmonic_mean:15.1f}"
    )

# %%
# The figure
# ----------
# Left: what there was to learn from, and what came of it in the joint space. Right: test images
# with the answer of the pipeline.

predictions = {method: names[score.argmax(axis=1)] for method, score in scores.items()}
colours = {"zero-shot CLIP": "#9A9A9A", "logistic regression": "#E69F00", "Candle": "#0072B2"}
right_colour, wrong_colour = "#0072B2", "#B34700"

figure = plt.figure(figsize=(13, 7), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.03)
tail, bars = left.subplots(2, 1, height_ratios=(1, 1.5))

tail.bar(np.arange(len(counts)), np.sort(counts)[::-1], width=1, color="#555555")
tail.axvspan(len(counts) - 0.5, len(names) - 0.5, color="#56B4E9", alpha=0.25, lw=0)
tail.text(len(counts) / 2, 16, f"{len(counts)} base classes", ha="center", va="center")
tail.text(
    (len(counts) + len(names)) / 2,
    16,
    f"{len(new_classes)} new classes:\nno image",
    ha="center",
    va="center",
)
tail.set(xlim=(-0.5, len(names) - 0.5), xlabel="class", ylabel="training images")

bands = (10, 3, 1)
band_names = ("10 or more", "3 to 9", "1 or 2", "none: new classes")
for position, (method, predicted) in enumerate(predictions.items()):
    accuracy = shot_band_accuracy(y_test, predicted, y_train=y_train, bands=bands)
    places = np.arange(len(band_names)) + 0.27 * (position - 1)
    heights = [100 * value for value in accuracy.values()]
    drawn = bars.bar(places, heights, width=0.25, color=colours[method], label=method)
    bars.bar_label(drawn, fmt="%.0f", fontsize=9)
bars.set_xticks(range(len(band_names)), band_names)
bars.set(ylim=(0, 110), xlabel="training images of the class", ylabel="accuracy (%)")
bars.legend(ncols=3, loc="upper center", frameon=False, fontsize=9)
for axes in (tail, bars):
    axes.spines[["top", "right"]].set_visible(False)

shots = dict(zip(labels, counts, strict=True))
shuffled = np.random.default_rng(0).permutation(len(y_test))
rows = {
    "Classes with one or two training images": [1, 2],
    "New classes: no training image": [0],
}
for part, (title, wanted), n_rows in zip(
    right.subfigures(2, 1, height_ratios=(2, 3)), rows.items(), (2, 3), strict=True
):
    shown = [i for i in shuffled if shots.get(y_test[i], 0) in wanted][: 6 * n_rows]
    for i, axes in zip(shown, part.subplots(n_rows, 6).flat, strict=True):
        answer, truth = predictions["Candle"][i], y_test[i]
        axes.imshow(X_test[i])
        axes.axis("off")
        if answer == truth:
            axes.set_title(answer, color=right_colour, fontsize=9)
        else:
            axes.set_title(f"{answer}\nnot {truth}", color=wrong_colour, fontsize=9)
    part.suptitle(title, fontsize=11)

figure.savefig("quickstart.png", dpi=110)
print(f"\nfigure: {Path('quickstart.png').resolve()}")
