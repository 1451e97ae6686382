"""
Share a pipeline, with a model card
===================================

People who receive a classifier want to know how it was made and how well it works, and they want to
load it without running third-party code. ``save_pipeline`` writes a folder with the pipeline and a
model card, ``push_to_hub`` uploads the folder to the Hugging Face Hub, and ``load_pipeline`` loads
it from either.
"""

# %%
# Fit and evaluate
# ----------------

from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import numpy as np
import skops.io
from markdown_it import MarkdownIt
from sklearn.model_selection import train_test_split

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.hub import load_pipeline, save_pipeline
from skcandle.inspection import PredictionGridDisplay
from skcandle.metrics import base_new_report

KNOWN = ["bear", "bird", "cat", "cow", "dog", "horse", "pig", "sheep"]
NEW = ["octopus", "penguin", "snake", "turtle"]

emoji = load_emoji()


def images_at(positions):
    return [emoji.images[i] for i in positions]


known = np.flatnonzero(np.isin(emoji.target, KNOWN))
train, test = train_test_split(known, stratify=emoji.target[known], random_state=0)
test = np.concatenate([test, np.flatnonzero(np.isin(emoji.target, NEW))])
X_test, y_test = images_at(test), emoji.target[test]

pipe = make_candle_pipeline("emoji-clip", new_classes=NEW, random_state=0)
pipe.fit(images_at(train), emoji.target[train])
report = base_new_report(
    y_test,
    pipe.decision_function(X_test),
    classes=pipe.classes_,
    new_classes=NEW,
    output_dict=True,
)

# %%
# Save
# ----
# You write the description. The rest of the card comes from the pipeline.

temporary = TemporaryDirectory()
folder = save_pipeline(
    pipe,
    Path(temporary.name) / "animals",
    license="cc-by-4.0",
    description=(
        "Recognises twelve kinds of animals on emoji. Trained on three quarters of the emoji "
        f"that come with skcandle, and evaluated on {len(test)} images: the other quarter, "
        "and all images of the four classes without training images."
    ),
    metrics={
        name: report[name]
        for name in ("joint_base", "joint_new", "joint_harmonic_mean", "log_loss", "ece")
    },
)
for path in sorted(folder.iterdir()):
    print(f"{path.name:<12} {path.stat().st_size / 1000:.0f} kB")

# %%
# Upload it to the Hub
# --------------------
# This needs a network connection and an account: ``huggingface_hub.login()`` asks for its token
# once. The repository is private by default.
#
# .. code-block:: python
#
#     from skcandle.hub import push_to_hub
#
#     push_to_hub(folder, "me/animals")
#     pipe = load_pipeline("me/animals")

# %%
# Load
# ----
# The loaded pipeline gives the same probabilities, and new classes need no training.

again = load_pipeline(folder)
same = np.array_equal(again.predict_proba(X_test), pipe.predict_proba(X_test))
print(f"the same probabilities: {same}")
print(f"with two more names: {len(again.add_classes(['fox', 'owl']).classes_)} classes")
grid = PredictionGridDisplay.from_estimator(again, X_test, y_test, random_state=0)

# %%
# A file is refused if it contains anything that such a pipeline does not consist of. Here, somebody
# has replaced the text encoder by a function:

pipe["candle"].text_encoder = print
skops.io.dump(pipe, folder / "model.skops")
try:
    load_pipeline(folder)
except ValueError as error:
    print(fill(str(error), 80))

# %%
# The card
# --------
# ``README.md`` in the folder begins with metadata for the Hub, which displays the rest as the page
# of the model.

_, metadata, card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
print(metadata)


class Rendered(str):
    """Markdown, displayed as HTML here and in notebooks."""

    def _repr_html_(self):
        return MarkdownIt("commonmark").enable("table").render(self)


Rendered(card)
