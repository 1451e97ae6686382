"""
A long tail of emoji, and classes without an image
==================================================

152 classes of emoji. Two thirds of them have training images, from 25 for the largest to a single
one for the smallest; the others have names and nothing else. One pipeline learns from the former
and answers with all 152.

The model is the small CLIP that comes with the library, so nothing is downloaded. Its captions
held the names of all classes, for drawings in other styles: a class that is new to the classifier
is not new to CLIP, as is the rule with larger models.
"""

# %%
# One pipeline
# ------------
# A third of the images is for testing. A third of the classes becomes new: their training images
# are put away, and the classifier is told their names. All parameters are defaults.

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skcandle import make_candle_pipeline
from skcandle._bundled import BUNDLED_MODEL
from skcandle.cli._demo import FIGURE_SIZE, draw, evaluate, table
from skcandle.datasets import load_emoji
from skcandle.model_selection import base_new_split

emoji = load_emoji()
train, test = train_test_split(
    np.arange(len(emoji.target)), test_size=1 / 3, stratify=emoji.target, random_state=0
)
base, new = base_new_split(emoji.target, new_fraction=1 / 3, random_state=0)
train = train[np.isin(emoji.target[train], base)]

pipe = make_candle_pipeline(BUNDLED_MODEL, new_classes=new.tolist(), random_state=0)
pipe.fit([emoji.images[i] for i in train], emoji.target[train])

answers = pipe.predict([emoji.images[i] for i in test])
is_new = np.isin(emoji.target[test], new)
right = answers == emoji.target[test]
print(f"right of classes with images: {right[~is_new].sum()} of {(~is_new).sum()}")
print(f"right of classes with a name only: {right[is_new].sum()} of {is_new.sum()}")

# %%
# Ten draws, with a long tail, beside other methods
# -------------------------------------------------
# One draw of test images and classes says little. Here, the task is drawn ten times, and the images
# of classes are cut to a long tail. All methods see the same embeddings and answer among all 152
# classes: zero-shot CLIP, which needs names only; logistic regression for classes with images,
# where zero-shot CLIP says how probable it is that the image is of one of them; and Candle. The
# command ``skcandle demo`` writes the same table and picture.

evaluation = evaluate(n_draws=10)
print(f"\n{table(evaluation)}")

# %%
# The picture
# -----------
# At the top, eight names of classes are typed in after training, in each draw; the images are drawn
# at random in the first. Markers are means of the ten draws, with 95 % intervals; in the picture on
# confidence, their size is the share of images.

figure = plt.figure(figsize=FIGURE_SIZE, layout="constrained")
draw(evaluation, figure)
path = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart.png")
figure.savefig(path, dpi=100)
print(f"\nfigure: {path.resolve()}")
