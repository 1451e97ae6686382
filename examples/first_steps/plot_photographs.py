"""
Photographs
===========

The other examples use emoji and the model that comes with the library, so they run offline. This
one uses photographs and the default model, OpenAI's ViT-B/16. Its weights, a few hundred megabytes,
are downloaded on the first run. Where they are not available, the example shows the photographs
without predictions, and says so.
"""

# %%
# The photographs
# ---------------
# Two come with scikit-learn: a temple by danielbuechele (china.jpg) and a flower by vultilion
# (flower.jpg), both on Flickr under `CC BY 2.0 <https://creativecommons.org/licenses/by/2.0/>`_.
# The others are from scikit-image, made smaller: a cat by Stefan van der Walt and coffee by Rachel
# Michetti, both CC0, and a rocket by SpaceX, in the public domain.

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.datasets import load_sample_image

from skcandle import make_candle_pipeline
from skcandle.exceptions import WeightsNotAvailableError

X_train = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
y_train = ["temple", "flower"]
new_classes = ["cat", "coffee", "rocket"]
X_test = [Path(sys.argv[0]).parent / "photos" / f"{name}.jpg" for name in new_classes]

# %%
# One photograph, or only a name
# ------------------------------
# Two classes have one photograph each, and three are known by name. Each of the other photographs
# is classified among all five. Five easy photographs say nothing about accuracy: for that, see the
# benchmarks.

pipe = make_candle_pipeline(new_classes=new_classes)
try:
    pipe.fit(X_train, y_train)
    labels, proba = pipe.top_k(X_test, 2)
except WeightsNotAvailableError:
    answers = ["not predicted"] * len(X_test)
    print("The weights of the default model are not available here, so nothing was predicted.")
else:
    answers = [
        "\n".join(f"{name} {value:.0%}" for name, value in zip(*row, strict=True))
        for row in zip(labels, proba, strict=True)
    ]

figure, grid = plt.subplots(1, 5, figsize=(11, 2.2), layout="constrained")
titles = [f"one photograph:\n{name}" for name in y_train] + answers
for image, title, axes in zip([*X_train, *map(Image.open, X_test)], titles, grid, strict=True):
    axes.imshow(image)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
plt.show()
