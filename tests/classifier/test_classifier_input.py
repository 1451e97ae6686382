"""Invalid training data, labels and parameters, and their error messages."""

import io

import numpy as np
import pytest
from long_tail import BASE, BOTH, CLASSES, DATA, fit, long_tailed, make, spelled
from PIL import Image
from sklearn.exceptions import NotFittedError

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.classifier import _base
from skcandle.exceptions import TextFeaturesWarning, WeightsNotAvailableError


@pytest.fixture(scope="module")
def fitted():
    return fit()


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        ["a.jpg", "b.jpg"],
        np.array(["a.jpg", "b.jpg"], dtype=object),
        [Image.new("RGB", (8, 8))] * 2,
        [io.BytesIO(b"a"), io.BytesIO(b"b")],
    ],
    ids=["paths", "array of paths", "PIL images", "files"],
)
def test_images_instead_of_embeddings_are_an_error(images):
    message = "X must hold embeddings, got images .* Put a CLIPFeaturizer before this classifier"
    with pytest.raises(TypeError, match=message):
        make().fit(images, BASE[:2])
    with pytest.raises(TypeError, match=message):
        fit().predict(images)


def test_default_text_encoder_without_its_weights_says_what_to_set(monkeypatch):
    def fail(self, prompts):
        raise WeightsNotAvailableError("No network.")

    monkeypatch.setattr(CLIPFeaturizer, "encode_text", fail)
    X = np.random.default_rng(0).normal(size=(4, 512))
    with pytest.raises(WeightsNotAvailableError, match="Set text_encoder .*No network"):
        CandleClassifier().fit(X, ["ant", "bee"] * 2)
    with pytest.raises(WeightsNotAvailableError, match="^No network"):
        CandleClassifier(text_encoder=CLIPFeaturizer()).fit(X, ["ant", "bee"] * 2)


def test_restrict_refuses_a_single_string():
    with pytest.raises(TypeError, match="needs a list of labels, got the string 'class 00'"):
        fit().restrict("class 00")


@pytest.mark.parametrize(
    "X, y, message",
    [
        (np.full((4, 32), np.nan), BASE[:2] * 2, "Input X contains NaN"),
        (np.full((4, 32), np.inf), BASE[:2] * 2, "Input X contains infinity"),
        (np.ones((4, 32)), BASE[:3], "inconsistent numbers of samples: .*4, 3"),
        (np.ones(32), BASE[:1], "Expected 2D array, got 1D array"),
        (np.ones((4, 2, 16)), BASE[:2] * 2, "dim 3"),
        (np.ones((3, 32)), [0.5, 1.2, 3.4], "Unknown label type: continuous"),
        (np.ones((2, 32)), [[0, 1], [1, 0]], "y should be a 1d array"),
        (np.ones((2, 32)), None, "requires y to be passed, but the target y is None"),
        (
            np.zeros((2, 32)),
            BASE[:2],
            "Row 0 of X is all zeros; an embedding must have",
        ),
    ],
)
def test_invalid_training_data(X, y, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


def test_one_class_without_new_classes():
    message = "there is one class, 'class 00'. List classes without images in new_classes"
    with pytest.raises(ValueError, match=message):
        make(new_classes=None).fit(DATA.X[:4], BASE[:1] * 4)


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.zeros(57), "At least one sample must have a positive weight|at least one non-zero"),
        (-np.ones(57), "[Nn]egative"),
        (np.ones(5), r"sample_weight.shape == \(5,\), expected \(57,\)"),
        (np.full(57, np.nan), "sample_weight contains NaN"),
    ],
)
def test_invalid_sample_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        make().fit(DATA.X, DATA.y, sample_weight=weight)


OUT_OF_RANGE = {
    "both": [
        ("temperature", 0.0),
        ("temperature", -1),
        ("temperature", 1e-40),
        ("temperature", 1e300),
        ("temperature", "cold"),
        ("margin", -0.1),
        ("margin", 1e300),
        ("max_iter", -1),
        ("max_iter", 2.5),
        ("random_state", "seed"),
        ("verbose", -1),
        ("templates", 3),
        ("class_names", 3),
        ("new_classes", 3),
        ("text_encoder", "ViT-B-32"),
        ("text_encoder", 3),
        ("device", 3),
    ],
    "candle": [
        ("shrinkage", -1.0),
        ("prototype_weight", -1.0),
        ("prototype_weight", "some"),
        ("base_offset", None),
        ("base_offset", np.inf),
        ("base_offset", 1e300),
        ("prototype_weight", 1e300),
        ("single_image_weight", -1.0),
        ("single_image_weight", np.nan),
        ("single_image_weight", "some"),
        ("shrinkage", 1e300),
        ("penalty", 1e300),
        ("penalty", -1),
    ],
    "published": [
        ("temperature", "auto"),
        ("prototype_scale", -1.0),
        ("dropout", -0.1),
        ("dropout", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", 1e300),
        ("prototype_scale", 1e300),
        ("batch_size", 0),
    ],
}


@pytest.mark.parametrize(
    "kind, parameter, value",
    [(kind, *case) for kind in BOTH for case in OUT_OF_RANGE["both"] + OUT_OF_RANGE[kind]],
)
def test_parameters_out_of_range_are_named(kind, parameter, value):
    name = CLASSES[kind].__name__
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of {name} must"):
        make(kind, **{parameter: value}).fit(DATA.X, DATA.y)


def test_unknown_parameters_are_errors():
    with pytest.raises(TypeError, match="tau"):
        CandleClassifier(tau=1.0)


def test_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        CandleClassifier(["okapi"])


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
@pytest.mark.parametrize("width", [31, 33])
def test_images_of_another_width(fitted, method, width):
    message = f"X has {width} features, but CandleClassifier is expecting 32"
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(np.ones((2, width)))


@pytest.mark.parametrize(
    "method, argument",
    [
        ("predict", DATA.X),
        ("predict_proba", DATA.X),
        ("predict_log_proba", DATA.X),
        ("decision_function", DATA.X),
        ("restrict", BASE),
        ("add_classes", ["kiwi"]),
    ],
)
def test_use_before_fit(method, argument):
    with pytest.raises(NotFittedError, match="not fitted yet. Call 'fit'"):
        getattr(make(), method)(argument)


# --- text and images of another model --------------------------------------------------------


def test_text_at_chance_warns():
    swapped = dict(zip(BASE, [DATA.texts[label] for label in np.roll(BASE, 1)], strict=True))
    clf = CandleClassifier(text_encoder=swapped, random_state=0)
    with pytest.warns(TextFeaturesWarning, match="correct for .* of 57 .* guessing among 8"):
        clf.fit(DATA.X, DATA.y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(5))
def test_text_that_fits_does_not_warn(seed):
    data = long_tailed(seed)
    make(text_encoder=data.texts).fit(data.X, data.y)


@pytest.mark.filterwarnings("error")
def test_few_images_do_not_show_chance_level():
    rng = np.random.default_rng(0)
    texts = {label: rng.normal(size=32) for label in BASE}
    CandleClassifier(text_encoder=texts).fit(DATA.X[:19], DATA.y[:19])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e19, 1e-15, 1e-30])
def test_only_directions_matter_however_long_or_short(scale, dtype):
    X, X_test = DATA.X.astype(dtype), DATA.X_test.astype(dtype)
    fitted = make().fit(X, DATA.y)
    expected = fitted.predict_proba(X_test)
    tolerance = {"atol": 2e-4 if dtype == np.float32 else 1e-10}
    np.testing.assert_allclose(fitted.predict_proba(X_test * dtype(scale)), expected, **tolerance)
    again = make().fit(X * dtype(scale), DATA.y)
    np.testing.assert_allclose(again.predict_proba(X_test), expected, **tolerance)


@pytest.mark.parametrize("scale", [1e19, 1e-15, 1e-30])
def test_the_published_method_is_finite_however_long_or_short_images_are(scale):
    X = DATA.X.astype(np.float32) * np.float32(scale)
    proba = make("published").fit(X, DATA.y).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_lengths_beyond_the_precision_of_the_model(scale):
    fitted = make().fit(DATA.X.astype(np.float32), DATA.y)
    expected = fitted.predict_proba(DATA.X_test)
    np.testing.assert_allclose(fitted.predict_proba(DATA.X_test * scale), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_only_directions_of_text_vectors_matter(scale):
    texts = {name: scale * vector for name, vector in DATA.texts.items()}
    np.testing.assert_allclose(
        fit(text_encoder=texts).predict_proba(DATA.X_test),
        fit().predict_proba(DATA.X_test),
        atol=1e-10,
    )


@pytest.mark.parametrize("kind", BOTH)
def test_a_row_of_zeros_has_no_class(kind, monkeypatch):
    monkeypatch.setattr(_base, "BLOCK_LOGITS", 32 * 10)
    X = DATA.X_test.copy()
    X[57] = 0
    with pytest.raises(ValueError, match="Row 57 of X is all zeros; an embedding must"):
        fit(kind).predict(X)


def test_without_text_a_row_of_zeros_is_a_row():
    fitted = fit(text_encoder=None, new_classes=None)
    assert np.isfinite(fitted.predict_proba(np.zeros((1, 32)))).all()


@pytest.mark.parametrize("dtype, scale", [(np.float32, 1e19), (np.float32, 1e38), (float, 1e200)])
def test_without_text_values_whose_squares_overflow_are_an_error(dtype, scale):
    options = {"text_encoder": None, "new_classes": None, "max_iter": 0}
    fitted = make(**options).fit(DATA.X.astype(dtype), DATA.y)
    X = DATA.X[:10].astype(dtype)
    X[3, 5] = scale
    message = f"Row 3 of X has the value .*, but without .* {np.dtype(dtype).name}. Divide X by"
    for call in (
        lambda: make(**options).fit(X, DATA.y[:10]),
        lambda: fitted.predict(X),
        lambda: fitted.add_images(X, DATA.y[:10]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("dtype, scale", [(np.float32, 1e13), (float, 1e115)])
def test_without_text_values_below_the_limit_are_used(dtype, scale):
    X = (DATA.X * scale).astype(dtype)
    proba = make(text_encoder=None, new_classes=None).fit(X, DATA.y).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_a_class_without_weight_is_left_out_with_a_warning(kind):
    weight = np.where(np.isin(DATA.y, BASE[:2]), 0, 1)
    clf = make(kind, new_classes=None)
    with pytest.warns(UserWarning, match="'class 00' and 1 others have no image with a positive"):
        clf.fit(DATA.X, DATA.y, sample_weight=weight)
    assert clf.classes_.tolist() == BASE[2:]


def test_a_listed_class_without_weight_is_a_new_class(recwarn):
    weight = np.where(DATA.y == BASE[0], 0, 1)
    clf = make(new_classes=BASE[:1]).fit(DATA.X, DATA.y, sample_weight=weight)
    assert clf.classes_[clf.is_new_].tolist() == BASE[:1]
    assert not recwarn.list


def test_a_name_with_half_of_a_surrogate_pair_is_an_error():
    name = "ap\ud83de"
    message = r"The name 'ap\\ud83de' of the label .* contains half of a surrogate pair"
    with pytest.raises(ValueError, match=message):
        make(text_encoder=spelled, new_classes=[name]).fit(DATA.X, DATA.y)
    with pytest.raises(ValueError, match=message):
        fit(text_encoder=spelled).add_classes([name])
