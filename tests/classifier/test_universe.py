"""All labels that a classifier may predict, and their names."""

import numpy as np
import pytest

from skcandle.classifier._universe import label_universe

STRINGS, NUMBERS = ["cow", "ant", "cow"], [2, 0, 2]


@pytest.mark.parametrize(
    "y, new_classes, class_names, classes, names",
    [
        (STRINGS, None, None, ["ant", "cow"], ["ant", "cow"]),
        (STRINGS, [], None, ["ant", "cow"], ["ant", "cow"]),
        (STRINGS, ["bee"], None, ["ant", "bee", "cow"], ["ant", "bee", "cow"]),
        (STRINGS, ("elk", "bee"), None, ["ant", "bee", "cow", "elk"], None),
        (STRINGS, np.array(["okapi"]), None, ["ant", "cow", "okapi"], None),
        (STRINGS, None, ["elk", "cow", "ant"], ["ant", "cow", "elk"], None),
        (STRINGS, ["bee"], ["cow", "ant"], ["ant", "bee", "cow"], None),
        (STRINGS, ["bee"], ["cow", "ant", "bee"], ["ant", "bee", "cow"], None),
        (
            STRINGS,
            None,
            {"cow": "brown cow", "ant": "red ant", "bee": "honey bee"},
            ["ant", "bee", "cow"],
            ["red ant", "honey bee", "brown cow"],
        ),
        (
            STRINGS,
            ["elk"],
            {"cow": "brown cow", "ant": "red ant"},
            ["ant", "cow", "elk"],
            ["red ant", "brown cow", "elk"],
        ),
        (STRINGS, None, {"ant": "red ant"}, ["ant", "cow"], ["red ant", "cow"]),
        (
            STRINGS,
            None,
            {"ox": ["ox", "bull"]},
            ["ant", "cow", "ox"],
            ["ant", "cow", ("ox", "bull")],
        ),
        (NUMBERS, None, ["a", ["b", "bee"], "c"], [0, 1, 2], ["a", ("b", "bee"), "c"]),
        (NUMBERS, None, ["a", "b", "c"], [0, 1, 2], ["a", "b", "c"]),
        (NUMBERS, None, ["a", "b", "c", "d"], [0, 1, 2, 3], ["a", "b", "c", "d"]),
        (NUMBERS, [1], ["a", "b", "c"], [0, 1, 2], ["a", "b", "c"]),
        (NUMBERS, [7], {0: "a", 2: "c", 7: "h"}, [0, 2, 7], ["a", "c", "h"]),
        (NUMBERS, None, {7: "h", 2: "c", 0: "a"}, [0, 2, 7], ["a", "c", "h"]),
        (NUMBERS, None, {-1: "z", 2: "c", 0: "a"}, [-1, 0, 2], ["z", "a", "c"]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_universe_and_names(y, new_classes, class_names, classes, names):
    universe = label_universe(np.array(y), new_classes, class_names)
    assert universe.classes.tolist() == classes
    assert universe.names == (classes if names is None else names)


def test_a_new_class_with_images_is_a_base_class():
    with pytest.warns(UserWarning, match="The class 'ant' in new_classes has images in y and is"):
        universe = label_universe(np.array(STRINGS), ["elk", "ant"])
    assert universe.classes.tolist() == universe.names == ["ant", "cow", "elk"]


@pytest.mark.parametrize("new_classes, classes", [(None, [0, 2]), ([5, 1], [0, 1, 2, 5])])
def test_integer_labels_without_class_names_have_no_names(new_classes, classes):
    universe = label_universe(np.array(NUMBERS), new_classes)
    assert universe.classes.tolist() == classes
    assert universe.names is None


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, float])
def test_numeric_labels_keep_their_dtype(dtype):
    classes = label_universe(
        np.array(NUMBERS, dtype=dtype), class_names=["a", "b", "c", "d"]
    ).classes
    assert classes.dtype == dtype


def test_object_labels_stay_objects():
    classes = label_universe(np.array(STRINGS, dtype=object), ["bee"]).classes
    assert classes.dtype == object
    assert classes.tolist() == ["ant", "bee", "cow"]


def test_object_labels_are_not_cut_as_arrays_of_strings_cut_them():
    y = np.array(["cow", "cow\0", "ant"], dtype=object)
    assert label_universe(y, ["ant\0"]).classes.tolist() == ["ant", "ant\0", "cow", "cow\0"]


def test_integers_in_an_object_array_are_integers():
    universe = label_universe(np.array(NUMBERS, dtype=object), class_names=["a", "b", "c"])
    assert universe.classes.tolist() == [0, 1, 2]
    assert universe.names == ["a", "b", "c"]


@pytest.mark.parametrize(
    "options", [{"new_classes": [300]}, {"class_names": {0: "a", 1: "b", 2: "c", 300: "d"}}]
)
def test_new_integers_do_not_wrap_around(options):
    classes = label_universe(np.array(NUMBERS, dtype=np.uint8), **options).classes
    assert classes.max() == 300


def test_a_new_class_may_be_longer_than_the_labels():
    classes = label_universe(np.array(STRINGS), ["hippopotamus"]).classes
    assert "hippopotamus" in classes


@pytest.mark.parametrize(
    "y, options, error, message",
    [
        (STRINGS, {"new_classes": "elk"}, TypeError, r"list, got the string 'elk'. Use \['elk'\]"),
        (STRINGS, {"class_names": "elk"}, TypeError, "a list of names, got the string 'elk'"),
        (STRINGS, {"new_classes": ["elk", "elk"]}, ValueError, "'elk' twice. List each class once"),
        (STRINGS, {"class_names": ["cow", "ant", "cow"]}, ValueError, "contains 'cow' twice"),
        (STRINGS, {"new_classes": ["elk", 3]}, TypeError, r"new_classes\[1\] is 3.* are strings"),
        (STRINGS, {"new_classes": [None]}, TypeError, r"new_classes\[0\] is None"),
        (NUMBERS, {"new_classes": ["elk"]}, TypeError, r"new_classes\[0\] is 'elk'.* are integers"),
        (NUMBERS, {"new_classes": [True]}, TypeError, r"new_classes\[0\] is True"),
        (NUMBERS, {"new_classes": [5, 5]}, ValueError, "new_classes contains 5 twice"),
        (STRINGS, {"class_names": ["ant", "bee"]}, ValueError, "'cow' is not in .* 2 labels. "
         "Add it, or give a mapping of label to name.$"),
        (NUMBERS, {"class_names": ["a", "b"]}, ValueError, "Label 2 is not .* 0 to 1. .* mapping"),
        ([-1, 1], {"class_names": ["a", "b"]}, ValueError, "Label -1 is not .* 0 to 1. .* mapping"),
        (NUMBERS, {"class_names": {0: "a"}}, ValueError, "Label .* has 1 labels. Add it.$"),
        (NUMBERS, {"class_names": ["a", "b", "c"], "new_classes": [3]}, ValueError, "3 is not in"),
        (STRINGS, {"class_names": {0: "ant"}}, TypeError, "has the label 0, .* are strings"),
        (NUMBERS, {"class_names": {"ant": "ant"}}, TypeError, "the label 'ant', .* are numbers"),
        (STRINGS, {"class_names": ["ant", "cow", 3]}, TypeError, "contains 3, but the labels in y"),
        (STRINGS, {"class_names": ["cow", ["ant"]]}, TypeError, r"\['ant'\], .* give a mapping of"),
        (STRINGS, {"class_names": {"ant": []}}, ValueError, "empty list of names for label 'ant'"),
        (STRINGS, {"class_names": {"ant": ["a", 3]}}, TypeError, "strings, got 3 for label 'ant'"),
        (STRINGS, {"class_names": {"ant": b"a"}}, TypeError, "strings, got b'a' for label 'ant'"),
        (NUMBERS, {"class_names": ["a", [], "c"]}, ValueError, "empty list of names for label 1"),
        (NUMBERS, {"class_names": [0, 1, 2]}, TypeError, "must be strings, got 0 for label 0"),
        (NUMBERS, {"class_names": {0: "a", 2: None}}, TypeError, "strings, got None for label 2"),
    ],
)  # fmt: skip
def test_invalid_labels_and_names(y, options, error, message):
    with pytest.raises(error, match=message):
        label_universe(np.array(y), **options)


def test_unused_categories_are_new_classes():
    universe = label_universe(np.array(STRINGS), categories=["elk", "cow", "ant"])
    assert universe.classes.tolist() == universe.names == ["ant", "cow", "elk"]
    assert label_universe(np.array(NUMBERS), categories=[2, 1, 0]).classes.tolist() == [0, 1, 2]


def test_categories_and_new_classes_add_up():
    universe = label_universe(np.array(STRINGS), ["bee"], categories=["elk", "cow", "ant"])
    assert universe.classes.tolist() == ["ant", "bee", "cow", "elk"]


def test_with_class_names_categories_do_not_count():
    universe = label_universe(np.array(STRINGS), None, ["cow", "ant"], ["elk", "cow", "ant"])
    assert universe.classes.tolist() == ["ant", "cow"]


# --- further classes -------------------------------------------------------------------------


def test_further_classes_of_strings_are_their_names():
    added = label_universe(np.array(STRINGS)).added(["elk", "bee"])
    assert added.classes.tolist() == added.names == ["elk", "bee"]
    assert {type(label) for label in added.classes} == {str}


def test_further_classes_of_integers_count_on():
    added = label_universe(np.array(NUMBERS), class_names=["a", "b", "c"]).added(["d", "e"])
    assert (added.classes.tolist(), added.names) == ([3, 4], ["d", "e"])


@pytest.mark.parametrize("y, classes", [(STRINGS, ["elk", "bee"]), (NUMBERS, [3, 4])])
def test_further_classes_of_a_mapping_have_its_names(y, classes):
    added = label_universe(np.array(y)).added({"elk": "red deer", "bee": ["bee", "honey bee"]})
    assert added.classes.tolist() == classes
    assert added.names == ["red deer", ("bee", "honey bee")]


def test_the_name_of_a_further_class_is_a_string():
    with pytest.raises(TypeError, match="add_classes must be strings, got 3 for label 'elk'"):
        label_universe(np.array(STRINGS)).added({"elk": 3})


@pytest.mark.parametrize(
    "y, class_names, names, wrong",
    [
        (STRINGS, {"cow": "brown cow"}, ["elk", "cow"], "cow"),
        (STRINGS, {"cow": "brown cow"}, ["elk", "bee", "elk"], "elk"),
        (NUMBERS, ["a", "b", "c"], ["d", "b"], "b"),
        (NUMBERS, None, ["d", "d"], "d"),
    ],
)
def test_a_further_class_is_neither_known_nor_named_twice(y, class_names, names, wrong):
    universe = label_universe(np.array(y), class_names=class_names)
    with pytest.raises(ValueError, match=f"add_classes got '{wrong}', which is repeated or one of"):
        universe.added(names)


@pytest.mark.parametrize("dtype, limit", [(float, 2**53), (np.int64, 2**63 - 1)])
def test_further_classes_up_to_what_a_number_tells_apart(dtype, limit):
    universe = label_universe(np.array([0, limit - 3], dtype))
    added = universe.added(["a", "b", "c"]).classes.tolist()
    assert added == [limit - 2, limit - 1, limit]
    with pytest.raises(ValueError, match=f"4 more labels after .* would exceed {limit}. Fit on"):
        universe.added(["a", "b", "c", "d"])
