"""
Your own encoder
================

``CandleClassifier`` needs embeddings, and vectors for the class names in the same space. Neither
has to come from CLIP. Here, the embeddings are counts of letter sequences in short descriptions
(any function can compute them), and the classes are topics. The last part uses features without any
text.
"""

# %%
# Any function from a list of strings to vectors
# ----------------------------------------------
# Counts of three-letter sequences stand in for a model. The same function embeds documents and
# class names.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from skcandle import CandleClassifier
from skcandle.datasets import make_long_tailed

hashing = HashingVectorizer(n_features=256, analyzer="char_wb", ngram_range=(3, 3))


def encode(texts):
    """Vectors of shape (n_texts, 256)."""
    return hashing.transform(texts).toarray() + 1e-3


documents = [
    "the cat purrs and sleeps", "a cat with grey fur", "cats hunt mice at night",
    "the dog barks at the mail", "a dog fetches a stick", "dogs need long walks",
    "the horse gallops on grass", "a horse pulls a cart",
]  # fmt: skip
topics = ["cat"] * 3 + ["dog"] * 3 + ["horse"] * 2
clf = CandleClassifier(new_classes=["sheep"], text_encoder=encode, templates="{}")
clf.fit(encode(documents), topics)
questions = ["a sheep gives wool", "my dog is old", "three sheep in a field"]
for question, answer in zip(questions, clf.predict(encode(questions)), strict=True):
    print(f"{question:<26}{answer}")

# %%
# Features without text
# ---------------------
# Pixels of digits have no text. With ``text_encoder=None``, the classifier is a shrunken
# discriminant analysis for long tails, here from 40 images of the most frequent digit down to two.

X, y = load_digits(return_X_y=True)
scores = {"CandleClassifier": [], "logistic regression": []}
for draw in range(10):
    train, test = train_test_split(np.arange(len(y)), test_size=0.5, stratify=y, random_state=draw)
    train = train[make_long_tailed(y[train], n_max=40, imbalance_ratio=0.05, random_state=draw)]
    for name, classifier in {
        "CandleClassifier": CandleClassifier(text_encoder=None),
        "logistic regression": LogisticRegression(class_weight="balanced", max_iter=2000),
    }.items():
        answers = classifier.fit(X[train] / 16, y[train]).predict(X[test] / 16)
        scores[name].append(100 * balanced_accuracy_score(y[test], answers))
for name, values in scores.items():
    half = 2.26 * np.std(values, ddof=1) / np.sqrt(len(values))
    print(f"{name:<20} balanced accuracy {np.mean(values):.1f} ± {half:.1f} %")

# %%
# The figure
# ----------
# Each line is one draw of the long tail.

figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
names = list(scores)[::-1]
for pair in zip(*(scores[name] for name in names), strict=True):
    axes.plot(names, pair, color="#0072B2" if pair[1] >= pair[0] else "#B34700", marker="o")
axes.set(ylabel="balanced accuracy (%)", title="Digits, 2 to 40 images per class, no text")
axes.margins(x=0.25)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
