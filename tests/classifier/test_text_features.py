"""From names to text features, for each form of `text_encoder`."""

import numpy as np
import pytest
from sklearn.base import clone

from skcandle import CandleClassifier, CLIPFeaturizer, PublishedCandleClassifier
from skcandle.classifier._text_features import (
    ClassTextEncoder,
    fill_templates,
    looks_like_a_code,
    words,
)
from skcandle.exceptions import TextFeaturesWarning

WIDTH, DEFAULT_WIDTH = 6, 512


def letters(prompts):
    """A text encoder that counts some letters, so that the words of a prompt matter."""
    return np.array([[1 + text.count(letter) for letter in "aeioup"] for text in prompts])


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
    "name, read",
    [
        ("ice cream", "ice cream"),
        ("ice_cream", "ice cream"),
        ("ice-cream", "ice cream"),
        ("outdoor__ice-cream_stand_", "outdoor ice cream stand"),
        ("T-shirt", "T shirt"),
        ("état-major", "état major"),
        ("F-16A/B", "F-16A/B"),
        ("737-700", "737-700"),
        ("black - and - white", "black - and - white"),
        ("_", ""),
        (" okapi\n", "okapi"),
        ("IceCream", "Ice Cream"),
        ("iceCream", "ice Cream"),
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("SUVCar", "SUV Car"),
        ("CafeÉtoile", "Cafe Étoile"),
        ("ice_CreamStand", "ice Cream Stand"),
        ("TVs", "TVs"),
        ("BMW", "BMW"),
        ("iPhone", "iPhone"),
        ("McLaren MP4-12C Coupe", "McLaren MP4-12C Coupe"),
        ("T-Shirt", "T Shirt"),
        ("cafe\u0301Bar", "caf\u00e9 Bar"),
    ],
)
def test_names_are_read_as_words(name, read):
    assert words(name) == read
    assert fill_templates("a {}.", [name]) == [[f"a {read}."]]


def test_templates_keep_their_hyphens():
    assert fill_templates("a low-res {}", ["ice_cream"]) == [["a low-res ice cream"]]


@pytest.mark.parametrize(
    "templates, message",
    [
        ([], "templates must not be empty. Give one"),
        ("a photo", "string with exactly one {} .* got 'a photo'"),
        ("{} and {}", "exactly one {}"),
        (["a {}", 3], "A template must be a string .* got 3"),
    ],
)
def test_bad_templates(templates, message):
    with pytest.raises(ValueError, match=message):
        fill_templates(templates, ["cat"])


def test_features_of_templates_are_averaged_as_directions():
    names = ["ape", "emu", "ibis"]
    result = ClassTextEncoder(letters, ["a {}", "many {} photos"])(names, names, WIDTH)
    total = 0
    for template in ("a {}", "many {} photos"):
        features = letters([template.format(name) for name in names])
        total = total + features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected)


# --- the five forms of text_encoder ----------------------------------------------------------


class Encoder:
    """Has the interface of a CLIPFeaturizer."""

    def encode_text(self, prompts):
        return letters(prompts)


NAMES = ["ape", "emu", "ibis"]
PROMPTS = ["a photo of a ape.", "a photo of a emu.", "a photo of a ibis."]


def fit_texts(text_encoder, **options):
    """Text features after a fit whose images are the texts of ape and emu."""
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    options = {"new_classes": ["ibis"], "max_iter": 0} | options
    clf = CandleClassifier(text_encoder=text_encoder, **options)
    return clf.fit(X, ["ape", "emu", "ape", "emu"]).text_features_


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("text_encoder", [letters, Encoder()], ids=["callable", "object"])
def test_encoders_receive_filled_prompts(text_encoder):
    np.testing.assert_allclose(fit_texts(text_encoder), unit(letters(PROMPTS)))


def test_a_mapping_is_used_without_templates():
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
        return np.eye(DEFAULT_WIDTH)[: len(texts)]

    monkeypatch.setattr(CLIPFeaturizer, "encode_text", encode_text)
    X = np.eye(DEFAULT_WIDTH)[[0, 1, 0, 1]] + 0.01
    clf = CandleClassifier(max_iter=0).fit(X, ["ape", "emu", "ape", "emu"])
    assert prompts == PROMPTS[:2]
    assert clf.text_features_.shape == (2, DEFAULT_WIDTH)


def test_auto_without_a_fitting_width_warns_with_both_widths(no_loading):
    no_loading()
    X = np.random.default_rng(0).normal(size=(6, 5))
    with pytest.warns(TextFeaturesWarning, match=f"X has 5 columns .* {DEFAULT_WIDTH}"):
        clf = CandleClassifier().fit(X, ["ape", "emu"] * 3)
    assert clf.text_features_ is None


@pytest.mark.filterwarnings("error")
def test_none_learns_from_images_without_a_warning():
    X = np.random.default_rng(0).normal(size=(6, 5))
    assert CandleClassifier(text_encoder=None).fit(X, ["ape", "emu"] * 3).text_features_ is None


@pytest.mark.parametrize(
    "text_encoder, message",
    [
        (lambda p: letters(p)[:-1], r"shape \(2, 6\) for 3 prompts, expected \(3, 6\)"),
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
        ({"ape": [1] * 6, "emu": "emu", "ibis": [3] * 6}, "vector of 'emu' must hold numbers"),
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
def test_labels_encoded_by_a_meta_estimator_are_explained(options):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    remedy = "them by numbers. Then (set class_names|number the vectors)"
    with pytest.raises((ValueError, TypeError), match=remedy):
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
    with pytest.raises(ValueError, match=r"labels are numbers .*Set class_names=\[...\]"):
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


@pytest.mark.parametrize(
    "y, options, message",
    [
        (["ice_cream", "ape"] * 2, {"new_classes": ["ice-cream"]}, "'ice-cream' and 'ice_cream'"),
        (["ice_cream", "ice cream"] * 2, {}, "'ice cream' and 'ice_cream'"),
        ([0, 1] * 2, {"class_names": ["a_b", "a b"]}, "'a_b' and 'a b' of the labels 0 and 1"),
        (
            ["ape", "emu"] * 2,
            {"class_names": {"ape": "bird", "emu": "bird"}},
            "'bird' and 'bird' of the labels 'ape' and 'emu'",
        ),
    ],
)
def test_two_labels_that_become_one_name_are_named(y, options, message):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(ValueError, match=f"The names {message} both read '.*' in a prompt"):
        CandleClassifier(text_encoder=letters, **options).fit(X, y)


def test_a_class_cannot_be_added_under_a_name_that_reads_the_same():
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    clf = CandleClassifier(text_encoder=letters, max_iter=0).fit(X, ["ice_cream", "emu"] * 2)
    with pytest.raises(ValueError, match="'ice_cream' and 'ice-cream' both read 'ice cream'"):
        clf.add_classes(["ice-cream"])


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
FORMS = r"labels 'cafe\\u0301' and 'caf\\xe9' are two Unicode forms .*NFC"


@pytest.mark.parametrize(
    "y, options",
    [
        ([COMPOSED, DECOMPOSED] * 2, {}),
        ([COMPOSED, "ape"] * 2, {"new_classes": [DECOMPOSED]}),
        ([COMPOSED, "ape"] * 2, {"class_names": {DECOMPOSED: "coffee house"}}),
        ([COMPOSED, "ape"] * 2, {"class_names": {COMPOSED: "tea", DECOMPOSED: "coffee"}}),
    ],
)
def test_two_unicode_forms_of_a_label_are_one_class(y, options):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    with pytest.raises(ValueError, match=FORMS):
        CandleClassifier(text_encoder=letters, **options).fit(X, y)


@pytest.mark.parametrize("first, second", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_two_unicode_forms_of_a_name_read_the_same(first, second):
    X = letters(PROMPTS).astype(float)[[0, 1, 0, 1]]
    for names in ([first, second], [[first, "bar"], second.upper()]):
        clf = CandleClassifier(text_encoder=letters, class_names=names)
        with pytest.raises(ValueError, match="both read '.*' in a prompt"):
            clf.fit(X, [0, 1] * 2)


def test_a_label_is_answered_in_the_form_it_has_and_encoded_in_the_composed_one():
    X, prompts = letters(PROMPTS).astype(float), []

    def encode(filled):
        prompts.extend(filled)
        return letters(filled)

    clf = CandleClassifier(text_encoder=encode, max_iter=0).fit(X[:2], [DECOMPOSED, "ape"])
    assert set(clf.predict(X)) <= {DECOMPOSED, "ape"}
    assert f"a photo of a {COMPOSED}." in prompts
    for grow in (
        lambda: clf.add_classes([COMPOSED]),
        lambda: clf.add_images(X[:1], [COMPOSED]),
        lambda: clf.add_classes({"bar": [COMPOSED.upper()]}),
    ):
        with pytest.raises(ValueError, match="are two Unicode forms of one|both read"):
            grow()


def test_vectors_may_distinguish_labels_that_read_the_same():
    vectors = dict(zip(["a_b", "a-b", "a b"], letters(PROMPTS), strict=True))
    X = letters(PROMPTS).astype(float)
    clf = CandleClassifier(text_encoder=vectors, max_iter=0).fit(X[:2], ["a_b", "a-b"])
    grown = clf.add_classes({"a b": vectors["a b"]})
    np.testing.assert_array_equal(grown.predict(X), ["a_b", "a-b", "a b"])


def test_a_new_class_without_text_is_an_error():
    X = np.random.default_rng(0).normal(size=(4, 6))
    clf = CandleClassifier(new_classes=["ibis"], text_encoder=None)
    with pytest.raises(ValueError, match="'ibis' has no image, and no text is used, because"):
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
    with pytest.raises(ValueError, match="CandleClassifier needs text, but text_encoder=None"):
        PublishedCandleClassifier(text_encoder=None).fit(X, ["ape", "emu"] * 2)


# --- several names, the same names, codes ----------------------------------------------------

SYNONYMS = {"sofa": ["couch", "settee"], "cat": "house cat"}


def make_named(class_names, **options):
    return CandleClassifier(class_names=class_names, text_encoder=letters, max_iter=0, **options)


def unit_rows(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def two_classes(labels):
    X = np.random.default_rng(0).normal(size=(8, WIDTH))
    return X, np.repeat(labels, 4)


def test_synonyms_are_averaged():
    clf = make_named(SYNONYMS, templates=["a {}.", "{} here"]).fit(*two_classes(["cat", "dog"]))
    assert clf.classes_.tolist() == ["cat", "dog", "sofa"]

    def of_name(name):
        return unit_rows(sum(unit_rows(letters([t.format(name)])) for t in ("a {}.", "{} here")))

    expected = {
        "cat": of_name("house cat"),
        "dog": of_name("dog"),
        "sofa": unit_rows(of_name("couch") + of_name("settee")),
    }
    np.testing.assert_allclose(clf.text_features_, np.concatenate(list(expected.values())))


def test_added_classes_may_have_synonyms():
    data = two_classes(["cat", "dog"])
    grown = make_named(None).fit(*data).add_classes({"sofa": ["couch", "settee"], "elk": "moose"})
    whole = make_named({"sofa": ["couch", "settee"], "elk": "moose"}).fit(*data)
    np.testing.assert_allclose(grown.text_features_, whole.text_features_)
    again = clone(grown).fit(*data)
    np.testing.assert_allclose(again.text_features_, whole.text_features_)


def test_added_integer_classes_may_have_synonyms():
    X, y = two_classes([0, 1])
    grown = make_named(["cat", "dog"]).fit(X, y).add_classes({"sofa": ["couch", "settee"]})
    whole = make_named(["cat", "dog", ["couch", "settee"]]).fit(X, y)
    np.testing.assert_allclose(grown.text_features_, whole.text_features_)
    assert clone(grown).fit(X, y).classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "class_names, message",
    [
        ({"cat": ["feline", "dog"]}, "'dog' and 'dog' of the labels 'cat' and 'dog' both read"),
        ({"cat": ["Dog", "feline"]}, "'Dog' and 'dog' of the labels 'cat' and 'dog' both read"),
        ({"cat": ["house cat", "house_cat"]}, "'house cat' and 'house_cat' of the label 'cat' re"),
        (
            {"sofa": ["couch"], "bench": ["Couch"]},
            "'Couch' and 'couch' of the labels 'bench' and 'sofa'",
        ),
        ({"IceCream": "IceCream", "ice_cream": "ice_cream"}, "'IceCream' and 'ice_cream' both"),
    ],
)
def test_names_that_read_the_same(class_names, message):
    with pytest.raises(ValueError, match=message):
        make_named(class_names).fit(*two_classes(["cat", "dog"]))


@pytest.mark.parametrize(
    "name, is_code",
    [
        ("SKU-1042", True),
        ("17", True),
        ("n01440764", True),
        ("A320", True),
        ("ice cream", False),
        ("Boeing 717", False),
        ("class 12", False),
        ("BMW", False),
        ("3D printer", False),
    ],
)
def test_what_looks_like_a_code(name, is_code):
    assert looks_like_a_code(name) == is_code


def test_codes_warn_once_and_point_to_class_names():
    data = two_classes(["SKU-1042", "17"])
    with pytest.warns(TextFeaturesWarning) as caught:
        clf = make_named(None).fit(*data)
    (message,) = [str(w.message) for w in caught]
    assert message.startswith("'17' and 1 more names look like a code")
    assert "class_names={'17': ...}" in message
    with pytest.warns(TextFeaturesWarning, match="'B2' looks like a code"):
        clf.add_classes(["B2"])
    with pytest.warns(TextFeaturesWarning, match=r"'A1' looks like .* class_names=\{1: ...\}"):
        make_named(["cat", "A1"]).fit(*two_classes([0, 1]))


@pytest.mark.parametrize(
    "options",
    [
        {"class_names": {"SKU-1042": "lamp", "17": "17"}},  # explicit names
        {"text_encoder": {"SKU-1042": np.ones(WIDTH), "17": -np.ones(WIDTH)}},
        {"text_encoder": None},
    ],
)
@pytest.mark.filterwarnings("error")
def test_codes_do_not_warn_where_names_are_given_or_not_read(options):
    clf = CandleClassifier(**{"text_encoder": letters, "max_iter": 0} | options)
    clf.fit(*two_classes(["SKU-1042", "17"]))


@pytest.mark.parametrize("container", ["Categorical", "Series"])
def test_unused_categories_of_y_are_new_classes(container):
    pd = pytest.importorskip("pandas")
    X, y = two_classes(["cat", "dog"])
    y = pd.Categorical(y, categories=["dog", "elk", "cat"])
    y = y if container == "Categorical" else pd.Series(y)
    clf = make_named(None).fit(X, y)
    assert clf.classes_.tolist() == ["cat", "dog", "elk"]
    assert clf.is_new_.tolist() == [False, False, True]
    assert make_named({"cat": "cat"}).fit(X, y).classes_.tolist() == ["cat", "dog"]
    without_text = CandleClassifier(text_encoder=None).fit(X, y)
    assert without_text.classes_.tolist() == ["cat", "dog"]
