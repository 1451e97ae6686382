"""
Wrong labels and duplicates
===========================

Look at your data before you train on it. ``ImageReport`` lists labels that are probably wrong,
images that occur twice, and files that cannot be read. We test it here on data with known errors:
some labels are changed, some images are copied, and one file is broken.
"""

# %%
# Images with known errors
# ------------------------

import matplotlib.pyplot as plt
import numpy as np

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.inspection import ImageReport

emoji = load_emoji()
labels, counts = np.unique(emoji.target, return_counts=True)
chosen = np.flatnonzero(np.isin(emoji.target, labels[counts >= 15]))
images, y = [emoji.images[i] for i in chosen], emoji.target[chosen].copy()
n_images, names = len(images), np.unique(y)

rng = np.random.default_rng(0)
changed = rng.choice(n_images, 20, replace=False)
for i in changed:
    y[i] = rng.choice(names[names != y[i]])

copied = rng.choice(np.setdiff1d(np.arange(n_images), changed), 5, replace=False)
for i in copied:  # the same image, a little brighter, under another label
    images.append(images[i].point(lambda value: min(255, value + 8)))
    y = np.append(y, rng.choice(names[names != y[i]]))

pipe = make_candle_pipeline("emoji-clip").fit(images, y)
images.append(b"this is not an image")
y = np.append(y, names[0])

# %%
# The report
# ----------
# In a notebook, put ``report`` in the last line to display the page; ``report.save("report.html")``
# writes it to a file. These are the training images, so predictions come from cross-validation.

report = ImageReport(pipe, images, y, is_training=True)
print(report)
print(f"unreadable: {report.unreadable}")

wrong = {*changed.tolist(), *range(n_images, n_images + len(copied))}
order = [int(i) for i in report.label_errors]
for n in (10, 20, 40):
    found = sum(i in wrong for i in order[:n])
    print(f"of the first {n} labels in the list, {found} were changed")

pairs = {(int(i), n_images + k) for k, i in enumerate(copied)}
found = [
    pair for pair in pairs if any(set(pair) <= set(group.tolist()) for group in report.duplicates)
]
print(f"{len(found)} of {len(pairs)} copies are in a group of near-duplicates")

# %%
# The most likely errors
# ----------------------
# Each image has its label and the prediction of a classifier that has not seen it. Frames mark
# labels that were not changed.

figure, grid = plt.subplots(2, 6, figsize=(10, 4.4), layout="constrained")
for i, axes in zip(order, grid.flat, strict=False):
    axes.imshow(images[i])
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=i not in wrong, color="#B34700", linewidth=3)
    axes.set_title(f"label: {y[i]}\npredicted: {report.y_pred[i]}", fontsize=10)
figure.suptitle("The most likely label errors")
plt.show()
