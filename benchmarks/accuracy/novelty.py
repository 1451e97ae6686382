"""Images of unlisted classes: how well scores detect them, and whether rejection rates are kept.

    python -m benchmarks.accuracy.novelty --emoji --features FILE.npz [FILE.npz ...]

A third of the classes is left out of the label universe. The others form a task of protocol.py:
half of them have training images, in a long tail, and half have only a name. The task is to
distinguish all test images of the universe from all images of the classes left out.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from scipy.special import logsumexp, softmax
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.accuracy.protocol import Features, Task, draw_task, unit
from benchmarks.accuracy.sections import interval, write_sections
from skcandle import CandleClassifier, RejectingClassifier
from skcandle.datasets import load_emoji

RATES = [0.05, 0.1, 0.2]
REFERENCE = "novelty_score"


@dataclass(frozen=True)
class Draw:
    """A task, and images of the classes that are outside its label universe."""

    task: Task
    unlisted: np.ndarray


def draw(features, seed):
    n_classes = len(features.names)
    left_out = np.random.default_rng([seed, 1]).permutation(n_classes)[: n_classes // 3]
    kept = np.setdiff1d(np.arange(n_classes), left_out)
    is_listed = np.isin(features.y, kept)
    listed = Features(
        features.X[is_listed],
        np.searchsorted(kept, features.y[is_listed]),
        features.names[kept],
        features.T[kept],
    )
    return Draw(draw_task(listed, seed), features.X[~is_listed])


def fit(task):
    texts = dict(enumerate(task.T))
    new = list(range(task.n_base, task.n_classes))
    return CandleClassifier(new_classes=new, text_encoder=texts).fit(task.X, task.y)


def mahalanobis(clf, X):
    """Smallest squared distance to a class mean or virtual prototype, in whitened coordinates."""
    space = clf._model.space
    images, prototypes = (X - space.image_mean) @ space.whitener, space.prototypes @ space.whitener
    squares = (images**2).sum(axis=1)[:, None] - 2 * images @ prototypes.T
    return (squares + (prototypes**2).sum(axis=1)).min(axis=1)


# Higher is more novel. Logits are the joint ones. MCM is computed with the temperature of its
# paper, 1, and with that of CLIP.
SCORES = {
    "largest probability": lambda clf, X: -clf.predict_proba(X).max(axis=1),
    "largest logit": lambda clf, X: -clf.decision_function(X).max(axis=1),
    "energy": lambda clf, X: -logsumexp(clf.decision_function(X), axis=1),
    "MCM, T = 1": lambda clf, X: -softmax(X @ clf.text_features_.T, axis=1).max(axis=1),
    "MCM, T = 0.01": lambda clf, X: -softmax(X @ clf.text_features_.T / 0.01, axis=1).max(axis=1),
    "largest text similarity": lambda clf, X: -(X @ clf.text_features_.T).max(axis=1),
    "Mahalanobis": mahalanobis,
    REFERENCE: lambda clf, X: clf.novelty_score(X),
}


def auroc(listed, unlisted):
    return roc_auc_score(
        np.repeat([0, 1], [len(listed), len(unlisted)]), np.concatenate([listed, unlisted])
    )


def accepted(listed, unlisted):
    """Share of unlisted images accepted when 95 % of the listed ones are accepted (FPR at 95 %)."""
    return np.mean(unlisted <= np.quantile(listed, 0.95))


def measure(clf, case):
    """Measured quantities of each score, also for base and new classes among the listed ones."""
    is_base = case.task.y_test < case.task.n_base
    rows = {}
    for name, score in SCORES.items():
        listed, unlisted = score(clf, case.task.X_test), score(clf, case.unlisted)
        rows[name] = [
            auroc(listed, unlisted),
            accepted(listed, unlisted),
            auroc(listed[is_base], unlisted),
            auroc(listed[~is_base], unlisted),
        ]
    return rows


def rejected(clf, case):
    """Shares rejected at each rate: all listed, base and new classes (averages), and unlisted."""
    shares = []
    for rate in RATES:
        rejecting = RejectingClassifier(FrozenEstimator(clf), rejection_rate=rate)
        rejecting.fit(case.task.X, case.task.y)
        wrong = rejecting.predict(case.task.X_test) == rejecting.reject_label_
        classes = np.unique(case.task.y_test)
        by_class = np.array([wrong[case.task.y_test == k].mean() for k in classes])
        side = classes < case.task.n_base
        right = rejecting.predict(case.unlisted) == rejecting.reject_label_
        shares.append(
            [by_class.mean(), by_class[side].mean(), by_class[~side].mean(), right.mean()]
        )
    return np.array(shares)


def unusual_images(featurizer):
    """Embeddings of images without content, and of negatives of the emoji."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (60, 3), dtype=np.uint8)
    kinds = {
        "uniform noise": rng.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8),
        "normal noise": rng.normal(128, 40, (60, 64, 64, 3)).clip(0, 255).astype(np.uint8),
        "one colour": np.tile(colours[:, None, None], (1, 64, 64, 1)),
        "negatives of emoji": [ImageOps.invert(image) for image in load_emoji().images],
    }
    return {
        name: unit(
            featurizer.fit_transform(
                [i if isinstance(i, Image.Image) else Image.fromarray(i) for i in images]
            )
        )
        for name, images in kinds.items()
    }


def report(name, features, seeds, unusual=None):
    """Markdown of one set of features."""
    scored, kept, shown = {score: [] for score in SCORES}, [], []
    for seed in range(seeds):
        case = draw(features, seed)
        clf = fit(case.task)
        for score, row in measure(clf, case).items():
            scored[score].append(row)
        kept.append(rejected(clf, case))
        if unusual:
            rejecting = RejectingClassifier(FrozenEstimator(clf), rejection_rate=0.05)
            rejecting.fit(case.task.X, case.task.y)
            answers = {kind: rejecting.predict(X) for kind, X in unusual.items()}
            shown.append([np.mean(a == rejecting.reject_label_) for a in answers.values()])
    scored = {score: np.array(rows) for score, rows in scored.items()}
    kept = np.array(kept)
    quantities = ["AUROC", "FPR at 95 %", "AUROC, base", "AUROC, new"]
    parts = [
        f"## {name}",
        markdown_table(
            ["score", *quantities],
            [[s, *(f"{100 * x:.1f}" for x in rows.mean(axis=0))] for s, rows in scored.items()],
        ),
        markdown_table(
            [f"{REFERENCE} minus", *quantities[:2]],
            [
                [s, *(interval((scored[REFERENCE] - rows)[:, i]) for i in (0, 1))]
                for s, rows in scored.items()
                if s != REFERENCE
            ],
        ),
        markdown_table(
            ["chosen rate", "rejected, listed", "base", "new", "unlisted"],
            [
                [f"{rate:.0%}", *(interval(kept[:, i, j]) for j in range(4))]
                for i, rate in enumerate(RATES)
            ],
        ),
    ]
    if unusual:
        shown = np.array(shown)
        body = [[kind, interval(shown[:, i])] for i, kind in enumerate(unusual)]
        parts.append(markdown_table(["images that show", "rejected at a rate of 5 %"], body))
    return "\n\n".join(parts)


if __name__ == "__main__":
    write_sections("novelty", __doc__, report, unusual_images)
