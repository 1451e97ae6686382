"""
Save, load, and add classes
===========================

A fitted pipeline is saved as its parameters and some NumPy arrays. CLIP's weights are not included;
they are loaded by name when the pipeline is used. In another process, the pipeline makes the same
predictions, and new classes can be added there by name.
"""

# %%
# Fit and save
# ------------

import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji

animals = ["bear", "bird", "cat", "cow", "dog", "horse", "pig", "sheep"]
added = ["octopus", "penguin", "snake", "turtle"]

emoji = load_emoji()
known = np.isin(emoji.target, animals)
train, test = train_test_split(
    np.flatnonzero(known), test_size=1 / 3, stratify=emoji.target[known], random_state=0
)
test = np.concatenate([np.flatnonzero(np.isin(emoji.target, added)), test])
X_test = [emoji.images[i] for i in test]

pipe = make_candle_pipeline("emoji-clip", random_state=0)
pipe.fit([emoji.images[i] for i in train], emoji.target[train])

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
joblib.dump(pipe, folder / "pipe.joblib")
joblib.dump(X_test, folder / "images.joblib")
print(f"saved {(folder / 'pipe.joblib').stat().st_size / 1000:.0f} kB")

# %%
# Load in a fresh process
# -----------------------
# This script is all you need to serve the pipeline. `add_classes` returns a copy of the classifier,
# and the script makes a new pipeline with it.

SERVE = """
import joblib
from sklearn.pipeline import make_pipeline

pipe, images = joblib.load("pipe.joblib"), joblib.load("images.joblib")
joblib.dump(pipe.predict_proba(images), "proba.joblib")

grown = make_pipeline(pipe["clip"], pipe["candle"].add_classes(ADDED))
joblib.dump(grown, "grown.joblib")
joblib.dump(grown.predict(images), "answers.joblib")
"""
script = SERVE.replace("ADDED", repr(added))
subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)

same = np.array_equal(joblib.load(folder / "proba.joblib"), pipe.predict_proba(X_test))
print(f"probabilities in the other process are the same: {same}")

before, after = pipe.predict(X_test), joblib.load(folder / "answers.joblib")
is_added = np.isin(emoji.target[test], added)
for name, answers in (("before", before), ("after", after)):
    hits = answers == emoji.target[test]
    print(
        f"{name:<6} adding {len(added)} classes: {hits[~is_added].sum()} of {(~is_added).sum()} "
        f"images of known animals correct, {hits[is_added].sum()} of {is_added.sum()} of added ones"
    )

# %%
# The effect of the added names
# -----------------------------
# A random sample of six test images of added classes and six of known ones. Blue: the prediction
# with the added names is correct; orange: it is wrong.

rng = np.random.default_rng(0)
shown = [
    *rng.choice(np.flatnonzero(is_added), 6, replace=False),
    *rng.choice(np.flatnonzero(~is_added), 6, replace=False),
]
figure, grid = plt.subplots(2, 6, figsize=(10, 4.2), layout="constrained")
for i, axes in zip(shown, grid.flat, strict=True):
    axes.imshow(X_test[i])
    axes.axis("off")
    right = after[i] == emoji.target[test][i]
    axes.set_title(
        f"before: {before[i]}\nafter: {after[i]}",
        fontsize=9,
        color="#0072B2" if right else "#B34700",
    )
figure.suptitle(f"Adding {', '.join(added)} by name (blue: correct afterwards)", fontsize=11)
figure.savefig("persistence.png", dpi=110)
print(f"\nfigure: {Path('persistence.png').resolve()}")
