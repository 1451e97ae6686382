"""
A long tail of emoji, and classes without images
================================================

There are 152 classes of emoji. Two thirds of them have training images, from 25 for the largest
class to a single one for the smallest. The others have only names. One pipeline learns from the
images and predicts among all 152 classes.

The model is the small CLIP that comes with the library, so nothing is downloaded. It was trained
with captions that contain the names of all classes, on drawings in other styles. A class that is
new to the classifier is therefore not new to CLIP, which is usually the case with larger models as
well.
"""

# %%
# One pipeline
# ------------
# A third of the images is for testing. A third of the classes becomes new: we leave out their
# training images and give the classifier only their names. All parameters have default values.

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
print(f"correct, classes with images: {right[~is_new].sum()} of {(~is_new).sum()}")
print(f"correct, classes with only a name: {right[is_new].sum()} of {is_new.sum()}")

# %%
# Ten draws with a long tail, compared with other methods
# -------------------------------------------------------
# One draw of test images and classes says little. Here, the task is drawn ten times, and the
# training images form a long tail. All methods use the same embeddings and predict among all 152
# classes. They are zero-shot CLIP, which needs only names; logistic regression for classes with
# images, gated by the zero-shot probability that the image belongs to one of them; and Candle. The
# command ``skcandle demo`` writes the same table and picture.

evaluation = evaluate(n_draws=10)
print(f"\n{table(evaluation)}")

# %%
# The picture
# -----------
# At the top, eight classes are added by name after training in each draw; the images shown are a
# random sample from the first draw. Markers are means over the ten draws with 95 % intervals. In
# the panel on confidence, their size is the share of images.

figure = plt.figure(figsize=FIGURE_SIZE, layout="constrained")
draw(evaluation, figure)
path = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart.png")
figure.savefig(path, dpi=100)
print(f"\nfigure: {path.resolve()}")
