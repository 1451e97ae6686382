"""
New classes after the fit
=========================

A classifier of animals is in use when people ask for fruit. There are no images of fruit, only
names. ``add_classes`` adds them to the label set in milliseconds. Most fruit is then predicted
correctly, and few animals are mistaken for fruit.
"""

# %%
# Animals, learned from images
# ----------------------------

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji

ANIMALS = ["bear", "bird", "cat", "cow", "dog", "horse", "pig", "sheep"]
FRUIT = ["apple", "banana", "cherries", "grapes", "lemon", "strawberry"]

emoji = load_emoji()


def images_at(positions):
    return [emoji.images[i] for i in positions]


animals = np.flatnonzero(np.isin(emoji.target, ANIMALS))
fruit = np.flatnonzero(np.isin(emoji.target, FRUIT))
train, test = train_test_split(
    animals, test_size=0.5, stratify=emoji.target[animals], random_state=0
)
pipe = make_candle_pipeline("emoji-clip").fit(images_at(train), emoji.target[train])

# %%
# Fruit, by name only
# -------------------

pipe.predict(images_at(test[:1]))  # loads the model
start = time.perf_counter()
grown = pipe.add_classes(FRUIT)
print(f"{len(FRUIT)} classes added in {1000 * (time.perf_counter() - start):.0f} ms")

for name, positions in (("animals", test), ("fruit", fruit)):
    before = pipe.predict(images_at(positions)) == emoji.target[positions]
    after = grown.predict(images_at(positions)) == emoji.target[positions]
    print(f"{name:<8} correct before: {before.sum():2d}, after: {after.sum():2d} of {len(after)}")

# %%
# `restrict` returns a view of some classes, here with only fruit as possible predictions.

only_fruit = grown.restrict(FRUIT)
right = only_fruit.predict(images_at(fruit)) == emoji.target[fruit]
print(f"correct among fruit only: {right.mean():.0%}")

# %%
# Before and after
# ----------------
# A random sample of four animals and eight pieces of fruit. Blue is correct, orange is wrong.

rng = np.random.default_rng(0)
shown = [*rng.choice(test, 4, replace=False), *rng.choice(fruit, 8, replace=False)]
figure, grid = plt.subplots(2, 6, figsize=(10, 4.4), layout="constrained")
for i, axes in zip(shown, grid.flat, strict=True):
    old, new = pipe.predict(images_at([i]))[0], grown.predict(images_at([i]))[0]
    axes.imshow(emoji.images[i])
    axes.axis("off")
    colour = "#0072B2" if new == emoji.target[i] else "#B34700"
    axes.set_title(f"before: {old}\nafter: {new}", fontsize=10, color=colour)
figure.suptitle("Six classes added by name, without training (blue: correct afterwards)")
plt.show()
