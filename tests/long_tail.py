"""A long tail of synthetic embeddings, and classifiers for it, shared by several tests.

The first eight classes have images, from 15 down to one. The last four have only a name.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
from helpers import clip_like

from skcandle import CandleClassifier, PublishedCandleClassifier

N_TRAIN = [15, 12, 10, 8, 5, 4, 2, 1, 0, 0, 0, 0]
LABELS = np.array([f"class {k:02d}" for k in range(12)])
BASE, NEW = LABELS[:8].tolist(), LABELS[8:].tolist()
BOTH = ["candle", "published"]
CLASSES = {"candle": CandleClassifier, "published": PublishedCandleClassifier}
DEFAULTS = {"candle": {}, "published": {"max_iter": 3, "batch_size": 32, "random_state": 0}}
# nothing is estimated or trained
FIXED = {
    "temperature": 0.01,
    "prototype_weight": 0.2,
    "base_offset": 0.0,
    "single_image_weight": 5.0,
    "max_iter": 0,
}
UNTRAINED = {"candle": FIXED, "published": {"max_iter": 0}}


def long_tailed(seed=0, n_train=N_TRAIN, n_test=25, **options):
    """Training images of base classes, test images of all, and text features by label."""
    X, y, texts = clip_like(np.array(n_train) + n_test, seed=seed, **options)
    position = np.concatenate([np.arange(n) for n in np.array(n_train) + n_test])
    is_train = position < np.array(n_train)[y]
    return SimpleNamespace(
        X=X[is_train],
        y=LABELS[y[is_train]],
        X_test=X[~is_train],
        y_test=LABELS[y[~is_train]],
        texts=dict(zip(LABELS.tolist(), texts, strict=False)),
    )


DATA = long_tailed()


def make(kind="candle", **options):
    """An unfitted classifier with all twelve classes in its universe."""
    universe = {"new_classes": NEW, "text_encoder": DATA.texts}
    return CLASSES[kind](**universe | DEFAULTS[kind] | options)


def fit(kind="candle", **options):
    """Such a classifier, fitted on the long tail."""
    return make(kind, **options).fit(DATA.X, DATA.y)


def spelled(prompts):
    """Text encoder that knows the texts of the labels in any template."""
    return np.stack([DATA.texts[prompt.split("of a ")[-1].rstrip(".")] for prompt in prompts])


def probas_in_a_fresh_process(classifiers, folder, **environment):
    """Probabilities of the test images, computed from files by another process."""
    joblib.dump(classifiers, folder / "classifiers.joblib")
    np.save(folder / "X.npy", DATA.X_test)
    code = (
        "import joblib, numpy as np; X = np.load('X.npy'); "
        "probas = [clf.predict_proba(X) for clf in joblib.load('classifiers.joblib')]; "
        "np.save('probas.npy', probas)"
    )
    path = os.pathsep.join(p for p in (os.getcwd(), os.environ.get("PYTHONPATH")) if p)
    env = os.environ | {"PYTHONPATH": path} | environment
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True)
    return np.load(folder / "probas.npy")
