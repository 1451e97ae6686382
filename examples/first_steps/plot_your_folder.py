"""
Your own folder of photos
=========================

This example turns a folder with one sub-folder per class into a classifier. As real folders do, it
contains a file that is not an image, a broken file, and a class without photos. It is made from the
bundled images here; to use your own folder, change two names.
"""

# %%
# The folder
# ----------

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji, load_image_folder
from skcandle.metrics import shot_band_accuracy
from skcandle.model_selection import cross_val_predict_proba

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name) / "photos"  # your folder

emoji = load_emoji()
HOW_MANY = {"cat": 8, "dog": 8, "bird": 6, "fish": 5, "horse": 4, "bear": 3, "rabbit": 2, "owl": 2}
for name, n_images in HOW_MANY.items():
    (folder / name).mkdir(parents=True)
    for i in np.flatnonzero(emoji.target == name)[:n_images]:
        emoji.images[i].save(folder / name / f"IMG_{i:04}.png")
(folder / "cat" / "notes.txt").write_text("taken in the garden")
(folder / "dog" / "IMG_9999.jpg").write_bytes(b"")
(folder / "penguin").mkdir()  # known only by name

# %%
# Its content
# -----------
# Every file is checked. Without ``on_error="skip"``, the broken file raises an error that names it.

photos = load_image_folder(folder, on_error="skip")
print(f"{len(photos.images)} images of {len(photos.target_names)} classes")
print(f"classes without images: {photos.empty_names}")
for path, reason in photos.skipped:
    print(f"left out: {Path(path).relative_to(folder)}, which {reason}")

# %%
# Fit
# ---
# For photographs, omit the name of the model. With ``cache``, embeddings are also stored in a
# folder, so that the next run encodes only new images.

pipe = make_candle_pipeline(
    "emoji-clip",  # your model
    new_classes=photos.empty_names,
    cache=Path(temporary.name) / "embeddings",
)
pipe.fit(photos.images, photos.target)

# %%
# How accurate is it?
# -------------------
# Each image is predicted by a classifier that has not seen it, among all classes, including the
# one without photos.

proba, classes = cross_val_predict_proba(pipe, photos.images, photos.target, cv=2)
answers = classes[proba.argmax(axis=1)]
bands = shot_band_accuracy(photos.target, answers, y_train=photos.target, bands=(5, 1))
for band, value in list(bands.items())[:2]:
    print(f"accuracy of classes with {band} images: {value:.0%}")
correct = proba[np.arange(len(proba)), np.searchsorted(classes, photos.target)]
print(f"mean probability of the correct class: {correct.mean():.0%}")

# %%
# New images
# ----------
# The penguins are from elsewhere, since the folder has none.

wanted = ["cat", "fish", "owl", "penguin"]
shown = [i for name in wanted for i in np.flatnonzero(emoji.target == name)[-3:]]
labels, proba = pipe.top_k([emoji.images[i] for i in shown], 2)
figure, grid = plt.subplots(2, 6, figsize=(10, 4.4), layout="constrained")
for i, names, values, axes in zip(shown, labels, proba, grid.flat, strict=True):
    axes.imshow(emoji.images[i])
    axes.axis("off")
    text = "\n".join(f"{n} {v:.0%}" for n, v in zip(names, values, strict=True))
    colour = "#0072B2" if names[0] == emoji.target[i] else "#B34700"
    axes.set_title(text, fontsize=10, color=colour)
figure.suptitle("The two most probable classes (blue: the first is correct)")
plt.show()
temporary.cleanup()
