"""
From a name to a class with images
==================================

A class begins as a name. Later there is a first image of it, and then a few more. ``add_classes``
adds the name and ``add_images`` adds the images. Each returns a fitted pipeline in milliseconds,
without training. How much does this lose compared with a new fit on all images, and how much does
it gain over zero-shot CLIP?
"""

# %%
# The task
# --------
# We use emoji in many art styles and ``emoji-clip``, the model that comes with the library. Half of
# the classes have eight images from the start. The others are first known by name only, and then
# get 1, 2, 4 and 8 images each. Up to twenty further images of each class are for testing.
# Everything is repeated with different halves.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import recall_score

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji

STEPS = [0, 1, 2, 4, 8]
N_DRAWS = 10
METHODS = ["zero-shot", "add_images", "fitted again"]
emoji = load_emoji()
names, counts = np.unique(emoji.target, return_counts=True)
names = names[counts >= 12]


def images_at(positions):
    return [emoji.images[i] for i in positions], emoji.target[positions]


def draw(seed):
    """Earlier and later classes, and the positions of the images of each class in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(names)
    shuffled = {name: rng.permutation(np.flatnonzero(emoji.target == name)) for name in names}
    return order[::2].tolist(), order[1::2].tolist(), shuffled


# %%
# Adding half of the classes
# --------------------------
# One pipeline is fitted once. Then it gets the names of the later classes, and their images as they
# arrive. At each step, we compare it with a pipeline that is fitted again on all images so far, and
# with zero-shot CLIP, which uses only names.

accuracy = {method: [] for method in METHODS}  # of each class, at each step, in each draw
seconds = {"add_images": [], "fitted again": []}
for seed in range(N_DRAWS):
    earlier, later, shuffled = draw(seed)
    first = np.concatenate([shuffled[name][:8] for name in earlier])
    X_test, y_test = images_at(np.concatenate([shuffled[name][8:28] for name in names]))

    pipe = make_candle_pipeline("emoji-clip").fit(*images_at(first)).add_classes(later)
    similarity = pipe["clip"].transform(X_test) @ pipe["candle"].text_features_.T
    by_name = pipe.classes_[similarity.argmax(axis=1)]
    curves = {method: [] for method in METHODS}
    for before, n_images in zip([0, *STEPS[:-1]], STEPS, strict=True):
        if n_images:
            arrived = np.concatenate([shuffled[name][before:n_images] for name in later])
            start = time.perf_counter()
            pipe = pipe.add_images(*images_at(arrived))
            seconds["add_images"].append(time.perf_counter() - start)
        so_far = np.concatenate([first, *(shuffled[name][:n_images] for name in later)])
        start = time.perf_counter()
        again = make_candle_pipeline("emoji-clip", class_names=names.tolist())
        again.fit(*images_at(so_far))
        seconds["fitted again"].append(time.perf_counter() - start)
        answers = [by_name, pipe.predict(X_test), again.predict(X_test)]
        for method, answer in zip(METHODS, answers, strict=True):
            recall = recall_score(y_test, answer, labels=names, average=None)
            curves[method].append([recall.mean(), recall[np.isin(names, later)].mean()])
    for method, curve in curves.items():
        accuracy[method].append(curve)

accuracy = {method: 100 * np.array(curves) for method, curves in accuracy.items()}
for group, which in enumerate(["all classes", "the later classes"]):
    print(f"accuracy of {which} in %, by number of images of each later class")
    print(" " * 16 + "".join(f"{n:7d}" for n in STEPS))
    for method, curves in accuracy.items():
        values = curves[:, :, group].mean(axis=0)
        print(f"{method:<16}" + "".join(f"{value:7.1f}" for value in values))
for method, spent in seconds.items():
    print(f"{method}: {1000 * np.median(spent):.0f} ms")

# %%
# Names alone already give predictions for half of the classes. The first images help the accuracy
# of all classes together. The later classes on their own need a few images: a class with one image
# no longer gets the offset of classes without images, and one drawing says little about others. On
# photos, the first image says more (``benchmarks/results/add_images.md``).

# %%
# The figure
# ----------
# The figure shows the lead over zero-shot CLIP, with 95 % intervals over the draws. Below each step
# are the images of one of the later classes.

colours = {"fitted again": "#E69F00", "add_images": "#0072B2"}
styles = {"fitted again": "--", "add_images": "-"}
labels = {
    "fitted again": "fitted again on all images",
    "add_images": "add_images, without training",
}
steps = np.arange(len(STEPS))
figure, (ax, strip) = plt.subplots(
    2, 1, figsize=(8.5, 6), height_ratios=(3, 1), sharex=True, layout="constrained"
)
ax.axhline(0, color="#7F7F7F", lw=2.5, ls=":", label="zero-shot CLIP")
for method, colour in colours.items():
    lead = (accuracy[method] - accuracy["zero-shot"])[:, :, 0]
    half = 2.26 * lead.std(axis=0, ddof=1) / np.sqrt(N_DRAWS)  # t, 9 degrees of freedom
    ax.fill_between(
        steps, lead.mean(axis=0) - half, lead.mean(axis=0) + half, color=colour, alpha=0.15, lw=0
    )
    ax.plot(
        steps, lead.mean(axis=0), styles[method], color=colour, lw=2.5, marker="o",
        label=labels[method],
    )  # fmt: skip
ax.set(ylabel="accuracy of all classes, points ahead of CLIP", title="A class begins as a name")
ax.legend(loc="upper left", frameon=False)
ax.spines[["top", "right"]].set_visible(False)
ax.tick_params(axis="x", length=0)

_, later, shuffled = draw(0)
example = max(later, key=lambda name: len(shuffled[name]))
strip.set(xlim=(-0.6, len(STEPS) - 0.4), ylim=(0, 1))
strip.axis("off")
box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "#555555"}
strip.text(0, 0.62, f"“{example}”", ha="center", va="center", fontsize=12, bbox=box)
strip.text(0, 0, "a name", ha="center")
for step, n_images in enumerate(STEPS[1:], start=1):
    across = {1: 1, 2: 2, 4: 2, 8: 4}[n_images]
    width, height = 0.2, 0.38
    for i in range(n_images):
        left = step + (i % across - across / 2) * width
        top = 0.62 + (n_images // across / 2 - i // across) * height
        inset = strip.inset_axes([left, top - height, width, height], transform=strip.transData)
        inset.imshow(emoji.images[shuffled[example][i]])
        inset.axis("off")
    strip.text(step, 0, f"{n_images} image{'s' * (n_images > 1)}", ha="center")

figure.savefig("label_life.png", dpi=110)
print(f"\nfigure: {Path('label_life.png').resolve()}")
