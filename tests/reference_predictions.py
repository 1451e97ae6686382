"""Reference predictions of fitted models, which show whether a change affects results.

    python tests/reference_predictions.py

rewrites ``reference/predictions.json`` from synthetic embeddings and from stored embeddings of some
bundled images. Do this only if results are *meant* to change, in the commit that changes them, and
say there by how much and why. With ``--encode``, the bundled images are first encoded again; the
stored embeddings need not match the bundled model.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from helpers import clip_like

from skcandle import CandleClassifier, PublishedCandleClassifier

FOLDER = Path(__file__).parent / "reference"
EMBEDDINGS, PREDICTIONS = FOLDER / "emoji.npz", FOLDER / "predictions.json"
N_CLASSES, N_BASE, N_TEST = 18, 12, 2
N_TRAIN = [6, 6, 5, 5, 4, 3, 3, 2, 2, 1, 1, 1]
N_ROWS = 20  # number of test images with stored probabilities
CLASSIFIERS = {
    "candle": (CandleClassifier, {}),
    "candle without text": (CandleClassifier, {"text_encoder": None}),
    "published": (
        PublishedCandleClassifier,
        {"max_iter": 5, "batch_size": 16, "dropout": 0.0, "random_state": 0},
    ),
}


def synthetic():
    """Embeddings, class indices and text features from a seeded generator."""
    return clip_like([n + N_TEST for n in N_TRAIN] + [N_TEST] * (N_CLASSES - N_BASE), seed=0)


def emoji():
    """The same for some bundled images, from stored embeddings."""
    with np.load(EMBEDDINGS) as file:
        return file["X"].astype(float), file["y"], file["texts"].astype(float)


DATA = {"synthetic": synthetic, "emoji": emoji}


def predict(name, data):
    """Probabilities of test images, from a model fitted on the training images."""
    X, y, texts = data
    classifier, options = CLASSIFIERS[name]
    options = {"text_encoder": dict(enumerate(texts)), "device": "cpu"} | options
    if options["text_encoder"] is None:
        X, y = X[y < N_BASE], y[y < N_BASE]
    else:
        options["new_classes"] = list(range(N_BASE, N_CLASSES))
    position = np.concatenate([np.arange(n) for n in np.bincount(y)])
    is_train = position >= N_TEST
    is_train &= y < N_BASE
    is_train &= position < N_TEST + np.append(N_TRAIN, [0] * (N_CLASSES - N_BASE))[y]
    X_test = X[position < N_TEST]
    rows = np.linspace(0, len(X_test) - 1, N_ROWS).astype(int)
    return classifier(**options).fit(X[is_train], y[is_train]).predict_proba(X_test[rows])


def encode_emoji():
    """Store embeddings of the first images of some bundled classes."""
    from skcandle import CLIPFeaturizer
    from skcandle.datasets import load_emoji

    bundled, clip = load_emoji(), CLIPFeaturizer("emoji-clip", precision="fp32", device="cpu")
    names = bundled.target_names[:: len(bundled.target_names) // N_CLASSES][:N_CLASSES]
    chosen = [np.flatnonzero(bundled.target == name)[: max(N_TRAIN) + N_TEST] for name in names]
    X = clip.transform([bundled.images[i] for i in np.concatenate(chosen)])
    texts = clip.encode_text([f"a photo of a {name}." for name in names])
    y = np.repeat(np.arange(N_CLASSES), list(map(len, chosen)))
    half = np.float16
    np.savez_compressed(
        EMBEDDINGS, X=X.astype(half), y=y.astype(np.uint8), texts=texts.astype(half)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encode", action="store_true", help="encode the bundled images again")
    FOLDER.mkdir(exist_ok=True)
    if parser.parse_args().encode:
        encode_emoji()
    table = {
        f"{kind}, {name}": [json.dumps(row) for row in predict(name, make()).round(4).tolist()]
        for kind, make in DATA.items()
        for name in CLASSIFIERS
    }
    # one row per line
    text = json.dumps(table, indent=1).replace('"[', "[").replace(']"', "]")
    PREDICTIONS.write_text(text + "\n")


if __name__ == "__main__":
    main()
