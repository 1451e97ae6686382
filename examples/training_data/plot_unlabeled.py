"""
A folder, eight names, no labels
================================

A folder of images is to be sorted into eight classes. None of the images has a label, and all were
scanned sideways. A classifier starts from the eight names, and ``add_unlabeled`` then learns what
the images look like from the folder itself.
"""

# %%
# The folder
# ----------
# The eight classes with the most images, turned by 90 degrees. The bundled model has seen emoji in
# training, but no sideways ones. The labels serve only to measure accuracy.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import log_loss

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji

emoji = load_emoji()
kinds, counts = np.unique(emoji.target, return_counts=True)
NAMES = sorted(kinds[np.argsort(-counts, kind="stable")[:8]].tolist())
rows = np.flatnonzero(np.isin(emoji.target, NAMES))
upright, labels = [emoji.images[i].convert("RGB") for i in rows], emoji.target[rows]
sideways = [image.rotate(90) for image in upright]
featurizer = CLIPFeaturizer("emoji-clip")
X = {"sideways": featurizer.fit_transform(sideways), "upright": featurizer.transform(upright)}

# %%
# Before and after
# ----------------
# A fit without any image knows the names only, and its answers are those of zero-shot CLIP.

no_images = np.empty((0, X["sideways"].shape[1]), dtype=np.float32)
before = CandleClassifier(new_classes=NAMES, text_encoder=featurizer).fit(no_images, [])
after = {name: before.add_unlabeled(embeddings) for name, embeddings in X.items()}
for name, embeddings in X.items():
    for stage, clf in (("before", before), ("after", after[name])):
        loss = log_loss(labels, clf.predict_proba(embeddings))
        print(f"{name} {stage:<7} correct {clf.score(embeddings, labels):4.0%}, ", end="")
        print(f"log-loss {loss:.2f}")

# %%
# More of the sideways images are sorted correctly. The log-loss rises, however: the answers are
# surer, and some of them are wrong. Without any label, nothing shows how sure answers may be. The
# names already say what upright emoji look like, so nothing changes for them.
#
# Does it also help with images that were not in the folder? Five times, half of the images are
# learned from and the other half is measured.

accuracy = []
for seed in range(5):
    learning = np.random.default_rng(seed).random(len(labels)) < 0.5
    learned = before.add_unlabeled(X["sideways"][learning])
    others = X["sideways"][~learning], labels[~learning]
    accuracy.append([before.score(*others), learned.score(*others)])
print(
    "other sideways images: correct before {:.0%}, after {:.0%}".format(*np.mean(accuracy, axis=0))
)

# %%
# Which classes gain
# ------------------
# A class gains if enough of its images are recognised from its name. Sideways hearts hardly are, so
# the images that are taken for hearts show little of what hearts look like.

recall = {
    stage: [np.mean(clf.predict(X["sideways"][labels == k]) == k) for k in NAMES]
    for stage, clf in (("before", before), ("after", after["sideways"]))
}
figure = plt.figure(figsize=(9, 5), layout="constrained")
grid = figure.add_gridspec(2, 8, height_ratios=[1, 2.6])
for i, name in enumerate(NAMES):
    axes = figure.add_subplot(grid[0, i])
    axes.imshow(sideways[np.flatnonzero(labels == name)[0]])
    axes.axis("off")
axes, positions = figure.add_subplot(grid[1, :]), np.arange(8)
axes.vlines(positions, recall["before"], recall["after"], color="0.6", lw=2, zorder=1)
axes.plot(positions, recall["before"], "o", color="#B34700", mfc="white", ms=9, label="names only")
axes.plot(positions, recall["after"], "o", color="#0072B2", ms=7, label="after add_unlabeled")
axes.set(xlim=(-0.5, 7.5), ylim=(-0.03, 1.03), ylabel="share of correct answers")
axes.set_xticks(positions, NAMES)
axes.yaxis.set_major_formatter(PercentFormatter(1))
axes.legend(frameon=False, loc="lower right")
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle("Sideways images, learned without a label")
plt.show()
