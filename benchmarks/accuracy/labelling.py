"""Accuracy after some labels in a labelling session whose answers a person would give.

    python -m benchmarks.accuracy.labelling --emoji --features FILE.npz [FILE.npz ...]

All names are known at the start. A random half of the images is the folder, in which five images
at a time are labelled correctly: those that `LabellingSession.next` puts first by "help", by
"doubt", or at random. Accuracy is that of the answers for the other half, which the session never
sees. *then fit* is the classifier that the session writes to a file, with estimated weights.
*labels only* learns from labelled images only, which "help" orders.
"""

import numpy as np

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.accuracy.sections import interval, write_sections
from skcandle.labelling import LabellingSession
from skcandle.labelling._answers import answers_of

N_LABELS = (0, 10, 20, 50, 100)
AT_ONCE = 5
ORDERS = {"help": "help", "doubt": "doubt", "random order": "random", "labels only": "help"}


def accuracies(features, seed, by, labels_only):
    """Accuracy after each number of labels, and that of the final fit."""
    rng = np.random.default_rng([seed, 5])
    names = [f"class {i:04d}" for i in range(len(features.names))]
    rows = rng.permutation(len(features.y))
    folder, test = np.array_split(rows, 2)
    text = dict(zip(names, features.T, strict=True))
    session = LabellingSession(folder, features.X[folder], classes=names, text_encoder=text)
    if labels_only:
        session._learner.sample = session._learner.sample[:0]
    found = []
    for n_labels in N_LABELS:
        while session.progress.n_labelled < n_labels:
            for image in session.next(AT_ONCE, by):
                session.label([image], names[features.y[folder[image]]])
        answers = answers_of(session.classifier, features.X[test], names)
        found.append(np.mean(answers.label == features.y[test]))
    labelled = session._labels.snapshot().with_class
    fitted = session._learner.fit_with_weights(names, labelled) if labels_only else session.fit()
    return [*found, np.mean(fitted.predict(features.X[test]) == np.array(names)[features.y[test]])]


def report(name, features, seeds):
    """Markdown of one set of features."""
    found = {
        order: np.array(
            [accuracies(features, seed, by, order == "labels only") for seed in range(seeds)]
        )
        for order, by in ORDERS.items()
    }
    reference = found["random order"]
    body = [
        [
            order,
            *(f"{100 * value:.1f}" for value in values.mean(axis=0)),
            "" if values is reference else interval((values - reference)[:, 1:-1].mean(axis=1)),
        ]
        for order, values in found.items()
    ]
    columns = [*(f"{n} labels" for n in N_LABELS), "then fit", "mean lead"]
    return f"## {name}\n\n" + markdown_table(["accuracy", *columns], body)


if __name__ == "__main__":
    write_sections("labelling", __doc__, report)
