"""What a classifier remembers over sequences of restrict, add_classes and add_images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from long_tail import BASE, DATA, FIXED, LABELS, NEW, make, spelled
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NUMBERS = np.searchsorted(LABELS, DATA.y)
OPTIONS = {
    "strings": {"text_encoder": spelled},
    "numbers": {"text_encoder": spelled, "class_names": BASE},
    "vectors": {"text_encoder": dict(enumerate(DATA.texts.values()))},
}


def fitted(kind):
    y = DATA.y if kind == "strings" else NUMBERS
    return make(**FIXED | OPTIONS[kind] | {"new_classes": None}).fit(DATA.X, y), y


@pytest.mark.parametrize("kind", OPTIONS)
@given(data=st.data())
def test_a_classifier_never_forgets_a_class(kind, data):
    """Copies answer as the whole classifier does, and clones know each class it ever had."""
    whole, y = fitted(kind)
    view, shown, label_of = whole, set(whole.classes_.tolist()), {}
    for _ in range(data.draw(st.integers(1, 5))):
        known = set(whole.classes_.tolist())
        step = data.draw(st.sampled_from(["restrict", "add_classes", "add_images"]))
        if step == "restrict":
            shown = set(data.draw(st.lists(st.sampled_from(sorted(shown)), min_size=1)))
            mask = np.isin(view.classes_, list(shown))
            view = view.restrict(data.draw(st.sampled_from([mask, sorted(shown)])))
        elif step == "add_images":
            labels = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3))
            rows = DATA.X_test[: len(labels)]
            view, whole = view.add_images(rows, labels), whole.add_images(rows, labels)
            shown |= set(labels)
        else:
            name = data.draw(st.sampled_from(NEW))
            if label_of.get(name) in shown or name in label_of and kind == "vectors":
                continue
            names = {name: DATA.texts[name]} if kind == "vectors" else [name]
            view = view.add_classes(names)
            if name not in label_of:
                whole = whole.add_classes(names)
                label_of[name] = name if kind == "strings" else max(known) + 1
            shown.add(label_of[name])
        assert view.classes_.tolist() == sorted(shown)
        expected = whole.restrict(sorted(shown))
        assert view.class_names_ == expected.class_names_
        assert_array_equal(view.class_count_, expected.class_count_)
        assert_allclose(view.predict_proba(DATA.X_test), expected.predict_proba(DATA.X_test))
    again = clone(view).fit(DATA.X, y)
    assert_array_equal(again.classes_, whole.classes_)
    assert again.class_names_ == whole.class_names_
