import numpy as np
import pytest

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle._labels import check_label_types
from skcandle.classifier._text_features import (
    class_text_features,
    default_text_width,
    fill_templates,
)
from skcandle.classifier._universe import label_universe
from skcandle.exceptions import TextFeaturesWarning

WIDTH = 6


def letters(prompts):
    """A text encoder: counts of some letters, so that the words of a prompt matter."""
    return np.array([[1 + text.count(letter) for letter in "aeioup"] for text in prompts])


# --- label universe --------------------------------------------------------------------------

STRINGS, NUMBERS = ["cow", "ant", "cow"], [2, 0, 2]


@pytest.mark.parametrize(
    "y, new_classes, class_names, classes, names",
    [
        (STRINGS, None, None, ["ant", "cow"], ["ant", "cow"]),
        (STRINGS, [], None, ["ant", "cow"], ["ant", "cow"]),
        (STRINGS, ["bee"], None, ["ant", "bee", "cow"], ["ant", "bee", "cow"]),
        (STRINGS, ("elk", "bee"), None, ["ant", "bee", "cow", "elk"], None),
        (STRINGS, np.array(["okapi"]), None, ["ant", "cow", "okapi"], None),
        (STRINGS, ["ant", "elk"], None, ["ant", "cow", "elk"], None),
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
        (NUMBERS, None, ["a", "b", "c"], [0, 1, 2], ["a", "b", "c"]),
        (NUMBERS, None, ["a", "b", "c", "d"], [0, 1, 2, 3], ["a", "b", "c", "d"]),
        (NUMBERS, [1], ["a", "b", "c"], [0, 1, 2], ["a", "b", "c"]),
        (NUMBERS, [7], {0: "a", 2: "c", 7: "h"}, [0, 2, 7], ["a", "c", "h"]),
        (NUMBERS, None, {7: "h", 2: "c", 0: "a"}, [0, 2, 7], ["a", "c", "h"]),
        (NUMBERS, None, {-1: "z", 2: "c", 0: "a"}, [-1, 0, 2], ["z", "a", "c"]),
    ],
)
def test_universe_and_names(y, new_classes, class_names, classes, names):
    result, result_names = label_universe(np.array(y), new_classes, class_names)
    assert result.tolist() == classes
    assert result_names == (classes if names is None else names)


@pytest.mark.parametrize("new_classes, classes", [(None, [0, 2]), ([5, 1], [0, 1, 2, 5])])
def test_integer_labels_without_class_names_have_no_names(new_classes, classes):
    result, names = label_universe(np.array(NUMBERS), new_classes)
    assert result.tolist() == classes
    assert names is None


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, float])
def test_numeric_labels_keep_their_dtype(dtype):
    classes, _ = label_universe(np.array(NUMBERS, dtype=dtype), class_names=["a", "b", "c", "d"])
    assert classes.dtype == dtype


def test_object_labels_stay_objects():
    classes, _ = label_universe(np.array(STRINGS, dtype=object), ["bee"])
    assert classes.dtype == object
    assert classes.tolist() == ["ant", "bee", "cow"]


def test_integers_in_an_object_array_are_integers():
    classes, names = label_universe(np.array(NUMBERS, dtype=object), class_names=["a", "b", "c"])
    assert classes.tolist() == [0, 1, 2]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize(
    "options", [{"new_classes": [300]}, {"class_names": {0: "a", 1: "b", 2: "c", 300: "d"}}]
)
def test_new_integers_do_not_wrap_around(options):
    classes, _ = label_universe(np.array(NUMBERS, dtype=np.uint8), **options)
    assert classes.max() == 300


def test_a_new_class_may_be_longer_than_the_labels():
    classes, _ = label_universe(np.array(STRINGS), ["hippopotamus"])
    assert "hippopotamus" in classes


@pytest.mark.parametrize(
    "y, options, error, message",
    [
        (STRINGS, {"new_classes": "elk"}, TypeError, r"single string 'elk'; .*\['elk'\]"),
        (STRINGS, {"class_names": "elk"}, TypeError, "single string 'elk'; give a list"),
        (STRINGS, {"new_classes": ["elk", "elk"]}, ValueError, "'elk' twice; name each class once"),
        (STRINGS, {"class_names": ["cow", "ant", "cow"]}, ValueError, "holds 'cow' twice"),
        (STRINGS, {"new_classes": ["elk", 3]}, TypeError, r"new_classes\[1\] is 3.* are strings"),
        (STRINGS, {"new_classes": [None]}, TypeError, r"new_classes\[0\] is None"),
        (NUMBERS, {"new_classes": ["elk"]}, TypeError, r"new_classes\[0\] is 'elk'.* are integers"),
        (NUMBERS, {"new_classes": [True]}, TypeError, r"new_classes\[0\] is True"),
        (NUMBERS, {"new_classes": [5, 5]}, ValueError, "new_classes holds 5 twice"),
        (STRINGS, {"class_names": ["ant", "bee"]}, ValueError, "'cow' is not in .* 2 labels. Add"),
        (NUMBERS, {"class_names": ["a", "b"]}, ValueError, "Label 2 is not .* 0 to 1; .* mapping"),
        ([-1, 1], {"class_names": ["a", "b"]}, ValueError, "Label -1 is not .* 0 to 1; .* mapping"),
        (NUMBERS, {"class_names": {0: "a"}}, ValueError, "Label .* has 1 labels. Add it.$"),
        (NUMBERS, {"class_names": ["a", "b", "c"], "new_classes": [3]}, ValueError, "3 is not in"),
        (STRINGS, {"class_names": {"ant": "ant"}}, ValueError, "'cow' is not in class_names"),
        (STRINGS, {"class_names": {0: "ant"}}, TypeError, "class_names maps 0, .* are strings"),
        (NUMBERS, {"class_names": {"ant": "ant"}}, TypeError, "maps 'ant', .* are numbers"),
        (STRINGS, {"class_names": ["ant", "cow", 3]}, TypeError, "has 3 .* names are strings"),
        (NUMBERS, {"class_names": [0, 1, 2]}, TypeError, "class_names has 0 for label 0"),
        (NUMBERS, {"class_names": {0: "a", 2: None}}, TypeError, "has None for label 2"),
    ],
)  # fmt: skip
def test_labels_that_do_not_make_a_universe(y, options, error, message):
    with pytest.raises(error, match=message):
        label_universe(np.array(y), **options)


@pytest.mark.parametrize(
    "y, error, message",
    [
        (["ape", "emu", None, "emu"], ValueError, r"y\[2\] is missing \(None\).* X and y alike"),
        (["ape", "emu", np.nan, "emu"], ValueError, r"y\[2\] is missing \(nan\)"),
        (["ape", "emu", 3, "emu"], TypeError, r"y\[0\] is 'ape' and y\[2\] is 3; .* one type"),
        ([1, 2, "emu", 2], TypeError, r"y\[0\] is 1 and y\[2\] is 'emu'"),
        ([("a", 1), ("b", 2), ("a", 1), ("b", 2)], TypeError, r"y\[0\] is \('a', 1\); .* Convert"),
        ([b"ape", b"emu", b"ape", b"emu"], TypeError, r"y\[0\] is b'ape'; .* Decode bytes"),
    ],
)
def test_labels_that_are_none(y, error, message):
    labels = np.empty(4, dtype=object)
    labels[:] = y
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(error, match=message):
        CandleClassifier(text_encoder=letters).fit(X, labels)


@pytest.mark.parametrize(
    "y, error, message",
    [
        (["ape", np.nan, "emu", "ape"], ValueError, r"^y\[1\] is missing \(nan\)"),
        ([0, 1, 0, np.nan], ValueError, r"^y\[3\] is missing \(nan\)"),
        ([0, 1, None, 1], ValueError, r"^y\[2\] is missing \(None\)"),
        (["ape", "emu", "ape", 7], TypeError, r"^y\[0\] is 'ape' and y\[3\] is 7"),
        ([True, "emu", "ape", "emu"], TypeError, r"^y\[0\] is True and y\[1\] is 'emu'"),
        ([["ape"], ["emu"], [np.nan], ["ape"]], ValueError, r"^y\[2\] is missing \(nan\)"),
    ],
)
def test_labels_in_a_list_are_checked_before_numpy_makes_strings_of_them(y, error, message):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(error, match=message):
        CandleClassifier(text_encoder=letters).fit(X, y)


@pytest.mark.parametrize(
    "y", [[], ["ape"], [1.5, -np.inf], np.array([], dtype=object), [[1, 2], [3, np.nan]]]
)
def test_labels_without_fault_and_what_is_no_list_of_labels_pass(y):
    check_label_types(y)


@pytest.mark.parametrize("dtype", ["object", "string", "category", "Int64"])
def test_missing_labels_of_pandas(dtype):
    pd = pytest.importorskip("pandas")
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    y = [0, 1, None, 1] if dtype == "Int64" else ["ape", "emu", None, "emu"]
    with pytest.raises(ValueError, match=r"y\[2\] is missing"):
        CandleClassifier(text_encoder=letters).fit(X, pd.Series(y, dtype=dtype))


# --- templates -------------------------------------------------------------------------------


def test_one_template():
    assert fill_templates("a photo of a {}.", ["cat", "dog"]) == [
        ["a photo of a cat.", "a photo of a dog."]
    ]


def test_several_templates():
    assert fill_templates(["{}", "many {}s"], ["cat"]) == [["cat"], ["many cats"]]


def test_names_may_hold_braces():
    assert fill_templates("a {}.", ["{0} cat {}"]) == [["a {0} cat {}."]]


@pytest.mark.parametrize(
    "templates, message",
    [
        ([], "templates is empty; give at least one"),
        ("a photo", "'a photo' is not a string with exactly one {}"),
        ("{} and {}", "exactly one {}"),
        (["a {}", 3], "The template 3 is not"),
    ],
)
def test_bad_templates(templates, message):
    with pytest.raises(ValueError, match=message):
        fill_templates(templates, ["cat"])


def test_features_of_templates_are_averaged_as_directions():
    names = ["ape", "emu", "ibis"]
    result = class_text_features(letters, names, names, ["a {}", "many {} photos"], WIDTH)
    total = 0
    for template in ("a {}", "many {} photos"):
        features = letters([template.format(name) for name in names])
        total = total + features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected)


# --- the five forms of text_encoder ----------------------------------------------------------


class Encoder:
    """What a CLIPFeaturizer is to the classifier."""

    def encode_text(self, prompts):
        return letters(prompts)


NAMES = ["ape", "emu", "ibis"]
PROMPTS = ["a photo of a ape.", "a photo of a emu.", "a photo of a ibis."]


def fit_texts(text_encoder, **options):
    """Text features after a fit on images that are the texts, of ape and emu alone."""
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    options = {"new_classes": ["ibis"], "max_iter": 0} | options
    clf = CandleClassifier(text_encoder=text_encoder, **options)
    return clf.fit(X, ["ape", "emu", "ape", "emu"]).text_features_


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("text_encoder", [letters, Encoder()], ids=["callable", "object"])
def test_encoders_receive_filled_prompts(text_encoder):
    np.testing.assert_allclose(fit_texts(text_encoder), unit(letters(PROMPTS)))


def test_a_mapping_is_taken_as_it_is():
    vectors = letters(NAMES) * 2.5
    mapping = dict(zip(NAMES, vectors, strict=True)) | {"unused": np.zeros(2)}
    np.testing.assert_allclose(fit_texts(mapping), unit(vectors))


def test_a_mapping_may_have_integer_labels():
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    mapping = dict(enumerate(letters(NAMES)))
    clf = CandleClassifier(new_classes=[2], text_encoder=mapping, max_iter=0).fit(X, [0, 1, 0, 1])
    np.testing.assert_allclose(clf.text_features_, unit(letters(NAMES)))


def test_names_and_not_labels_fill_the_template():
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    clf = CandleClassifier(class_names=NAMES, text_encoder=letters, max_iter=0)
    np.testing.assert_allclose(clf.fit(X, [0, 1, 0, 1]).text_features_, unit(letters(PROMPTS)))


def test_a_featurizer_encodes_the_prompts(tiny_clip):
    clip = CLIPFeaturizer(tiny_clip, pretrained=None)
    X = np.random.default_rng(0).normal(size=(6, 64))
    clf = CandleClassifier(text_encoder=clip, max_iter=0).fit(X, ["ape", "emu"] * 3)
    np.testing.assert_allclose(clf.text_features_, clip.encode_text(PROMPTS[:2]), atol=1e-6)


def test_auto_is_the_default_clip_where_the_width_fits(monkeypatch):
    prompts = []

    def encode_text(self, texts):
        assert self.model_name == CLIPFeaturizer().model_name
        prompts.extend(texts)
        return np.eye(default_text_width())[: len(texts)]

    monkeypatch.setattr(CLIPFeaturizer, "encode_text", encode_text)
    X = np.eye(default_text_width())[[0, 1, 0, 1]] + 0.01
    clf = CandleClassifier(max_iter=0).fit(X, ["ape", "emu", "ape", "emu"])
    assert prompts == PROMPTS[:2]
    assert clf.text_features_.shape == (2, default_text_width())


def test_auto_without_a_fitting_width_warns_with_both_widths(no_loading):
    no_loading()
    X = np.random.default_rng(0).normal(size=(6, 5))
    with pytest.warns(TextFeaturesWarning, match=f"X has 5 columns .* {default_text_width()}"):
        clf = CandleClassifier().fit(X, ["ape", "emu"] * 3)
    assert clf.text_features_ is None


def test_the_default_width_is_known_without_loading(no_loading):
    no_loading()
    assert default_text_width() == 512


@pytest.mark.filterwarnings("error")
def test_none_learns_from_images_without_a_warning():
    X = np.random.default_rng(0).normal(size=(6, 5))
    assert CandleClassifier(text_encoder=None).fit(X, ["ape", "emu"] * 3).text_features_ is None


@pytest.mark.parametrize(
    "text_encoder, message",
    [
        (lambda p: letters(p)[:-1], r"shape \(2, 6\) for 3 prompts; \(3, 6\) was expected"),
        (lambda p: letters(p).ravel(), r"shape \(18,\) for 3 prompts"),
        (lambda p: letters(p)[:, :4], "Text features have 4 columns, but X has 6.*make_candle_pi"),
        (lambda p: letters(p) * np.nan, "text_encoder returned NaN"),
        (lambda p: letters(p) / 0.0, "NaN or infinite"),
        ({"ape": [1] * 6, "emu": [2] * 6}, r"no vector for the label 'ibis' \(1 of 3"),
        (
            {"ape": [1] * 4, "emu": [2] * 4, "ibis": [3] * 4},
            r"'ape' has shape \(4,\), but X has 6",
        ),
        ({"ape": [1] * 6, "emu": [2] * 5, "ibis": [3] * 6}, r"vector of 'emu' has shape \(5,\)"),
        ({"ape": [1] * 6, "emu": "emu", "ibis": [3] * 6}, "vector of 'emu' is not one of numbers"),
        ({"ape": [1] * 6, "emu": None, "ibis": [3] * 6}, r"vector of 'emu' has shape \(\)"),
        ({"ape": [1] * 6, "emu": [0] * 6, "ibis": [3] * 6}, "text feature of 'emu' is all zeros"),
        (lambda p: letters(p) * 0, "The text feature of 'ape' is all zeros.*Check text_encoder"),
        ({"ape": [1] * 6, "emu": [np.nan] * 6, "ibis": [3] * 6}, "NaN or infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_text_features_that_do_not_fit(text_encoder, message):
    with pytest.raises(ValueError, match=message):
        fit_texts(text_encoder)


@pytest.mark.parametrize(
    "options",
    [
        {"text_encoder": letters},
        {"text_encoder": dict(zip(NAMES, letters(NAMES), strict=True))},
        {"text_encoder": letters, "new_classes": ["ibis"]},
        {"text_encoder": letters, "class_names": {"ape": "ape", "emu": "emu"}},
    ],
    ids=["callable", "mapping", "new classes", "class names"],
)
def test_labels_that_a_tool_has_encoded_are_explained(options):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises((ValueError, TypeError), match="Tools that encode .* and class_names="):
        CandleClassifier(**options).fit(X, [0, 1, 0, 1])


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 0, 1],
        [0.0, 1.0, 0.0, 1.0],
        [True, False, True, False],
        np.array([0, 1, 0, 1], dtype=object),
    ],
)
def test_numbers_never_fill_a_template(y):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(ValueError, match=r"labels are numbers .*Pass class_names=\[...\]"):
        CandleClassifier(text_encoder=letters).fit(X, y)


@pytest.mark.parametrize(
    "y, options, label",
    [
        (["ape", "emu"] * 2, {"new_classes": [" "]}, "' '"),
        (["ape", ""] * 2, {}, "''"),
        ([0, 1] * 2, {"class_names": ["ape", ""]}, "1"),
    ],
)
def test_blank_names_never_fill_a_template(y, options, label):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(ValueError, match=f"name of the label {label} is blank.* class_names, or"):
        CandleClassifier(text_encoder=letters, **options).fit(X, y)


def test_a_new_class_without_text_is_an_error():
    X = np.random.default_rng(0).normal(size=(4, 6))
    clf = CandleClassifier(new_classes=["ibis"], text_encoder=None)
    with pytest.raises(ValueError, match="'ibis' has no image, and no text is in use: text_enc"):
        clf.fit(X, ["ape", "emu"] * 2)


def test_a_new_class_with_an_unfitting_width_is_an_error():
    X = np.random.default_rng(0).normal(size=(4, 6))
    clf = CandleClassifier(new_classes=["ibis"])
    with pytest.raises(
        ValueError, match="'ibis' has no image.* X has 6 columns .*Set text_encoder"
    ):
        clf.fit(X, ["ape", "emu"] * 2)


def test_the_paper_needs_text():
    X = np.random.default_rng(0).normal(size=(4, 6))
    with pytest.raises(ValueError, match="published head needs text, but text_encoder=None"):
        CandleClassifier.paper(text_encoder=None).fit(X, ["ape", "emu"] * 2)
