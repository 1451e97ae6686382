from operator import attrgetter

import numpy as np
import pytest
from helpers import clip_like
from scipy.linalg import fractional_matrix_power

from skcandle.classifier._embeddings import unit
from skcandle.classifier._prototypes import (
    fit_prototypes,
    james_stein,
    shrink,
    text_to_image,
    whitening_matrix,
)
from skcandle.classifier._training_set import TrainingSet

COUNTS = [9, 5, 2, 1, 0, 0]
SEEN = 4


@pytest.fixture
def data():
    """Images and labels of four classes, texts of six."""
    return clip_like(COUNTS, 8)


def fit(data, *, sample_weight=None, text=True, shrinkage=1.0, n_classes=6):
    X, y, texts = data
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight)
    weight = weight.astype(X.dtype)
    data = TrainingSet(X, y, weight, texts if text else None, n_classes)
    return fit_prototypes(data, shrinkage)


def virtual(space, texts):
    """Virtual prototypes of texts, as if their classes were added."""
    return space.with_classes(len(texts), texts).prototypes[len(space.counts) :]


def class_means(X, y):
    return np.stack([X[y == k].mean(axis=0) for k in np.unique(y)])


def ridge_map(text, image, weight, penalty):
    """Text-to-image map by least squares, with the penalty as additional rows."""
    n_features = text.shape[1]
    root = np.sqrt(weight)[:, None]
    extra = np.sqrt(penalty) * np.eye(n_features)
    rows = np.concatenate([root * text, extra])
    return np.linalg.lstsq(rows, np.concatenate([root * image, extra]), rcond=None)[0]


# --- counts, centres, limits -----------------------------------------------------------------


def test_counts_cover_the_universe(data):
    training = fit(data)
    space = training.space
    np.testing.assert_array_equal(space.counts, COUNTS)
    np.testing.assert_array_equal(training.means[SEEN:], 0)


def test_origins_are_means_over_the_classes_with_images(data):
    X, y, texts = data
    space = fit(data).space
    np.testing.assert_allclose(space.image_mean, class_means(X, y).mean(axis=0))
    np.testing.assert_allclose(space.text_mean, texts[:SEEN].mean(axis=0))


def test_without_shrinkage_base_prototypes_are_class_means(data):
    X, y, _ = data
    space = fit(data, shrinkage=0.0).space
    np.testing.assert_allclose((space.prototypes + space.image_mean)[:SEEN], class_means(X, y))


def test_infinite_shrinkage_leaves_virtual_prototypes(data):
    _, _, texts = data
    space = fit(data, shrinkage=1e12).space
    np.testing.assert_allclose(space.prototypes, virtual(space, texts), atol=1e-10)


@pytest.mark.parametrize("shrinkage", [0.0, 1.0, 50.0])
def test_prototypes_of_new_classes_are_virtual(data, shrinkage):
    _, _, texts = data
    space = fit(data, shrinkage=shrinkage).space
    expected = (texts[SEEN:] - texts[:SEEN].mean(axis=0)) @ space.text_map
    np.testing.assert_allclose(space.prototypes[SEEN:], expected)


def test_base_prototypes_are_means_of_images_and_of_shrinkage_many_guesses(data):
    X, y, texts = data
    space = fit(data, shrinkage=3.0).space
    guesses = virtual(space, texts) + space.image_mean
    for k in range(SEEN):
        expected = np.average([*X[y == k], guesses[k]], axis=0, weights=[*np.ones(COUNTS[k]), 3.0])
        np.testing.assert_allclose(space.prototypes[k] + space.image_mean, expected)


def test_shrinkage_counts_less_the_more_images_there_are(data):
    _, _, texts = data
    training = fit(data)
    space = training.space
    drawn = np.linalg.norm(space.prototypes - training.means, axis=1)[:SEEN]
    whole = np.linalg.norm(virtual(space, texts) - training.means, axis=1)[:SEEN]
    np.testing.assert_allclose(drawn / whole, 1 / (np.array(COUNTS[:SEEN]) + 1))


@pytest.mark.filterwarnings("error")
def test_nothing_observed_is_the_prior():
    prior = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(shrink(np.zeros((1, 2)), np.zeros((1, 1)), prior, 0.0), prior)


# --- sample weights --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["space.counts", "space.image_mean", "space.text_map", "space.prototypes", "held_out_priors"],
)
def test_weight_two_is_a_repeated_image(data, name):
    X, y, texts = data
    repeats = np.arange(len(X)) % 3 + 1
    weighted = fit(data, sample_weight=repeats)
    repeated = fit((X.repeat(repeats, axis=0), y.repeat(repeats), texts))
    find = attrgetter(name)
    np.testing.assert_allclose(find(weighted), find(repeated), atol=1e-10)


def test_weight_two_is_a_repeated_image_for_the_covariance(data):
    X, y, texts = data
    repeats = np.arange(len(X)) % 3 + 1
    weighted = fit(data, sample_weight=repeats).space.whitener
    repeated = fit((X.repeat(repeats, axis=0), y.repeat(repeats), texts)).space.whitener
    np.testing.assert_allclose(weighted @ weighted.T, repeated @ repeated.T, rtol=1e-8)


def test_weight_two_is_a_repeated_image_for_what_is_left_out(data):
    X, y, texts = data
    repeats = np.arange(len(X)) % 3 + 1
    weighted = fit(data, sample_weight=repeats).transform_left_out(X, y, repeats)
    X2, y2 = X.repeat(repeats, axis=0), y.repeat(repeats)
    repeated = fit((X2, y2, texts)).transform_left_out(X2, y2, np.ones(len(X2)))
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one.repeat(repeats, axis=0), other, atol=1e-9)


def test_parts_of_one_image_per_class_have_no_covariance(data):
    X, y, texts = data
    for part in (0.5, 0.4):
        space = fit((X[:4], np.arange(4) // 2, texts), sample_weight=np.full(4, part)).space
        np.testing.assert_array_equal(space.whitener, np.eye(8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", [0, 4], ids=["exact", "rounded"])
def test_copies_of_one_image_have_no_covariance(data, dtype, rounding):
    X, y, texts = data
    first = np.unique(y, return_index=True)[1].repeat(3)
    X = X[first].astype(dtype)
    X[1::3] *= 1 + rounding * np.finfo(dtype).eps
    space = fit((X, y[first], texts.astype(dtype))).space
    np.testing.assert_array_equal(space.whitener, np.eye(X.shape[1]))


def test_images_that_are_nearly_equal_have_a_covariance(data):
    X, y, texts = data
    near = X[np.unique(y, return_index=True)[1]][y] + 1e-9 * X
    assert not np.allclose(fit((near, y, texts)).space.whitener, np.eye(X.shape[1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_images_of_any_weight_have_a_covariance(data, dtype):
    X, y, texts = data
    X, texts = X[:8].astype(dtype), texts.astype(dtype)  # seven residuals in eight dimensions
    space = fit((X, np.arange(8) // 4, texts), sample_weight=np.full(8, 1e12)).space
    assert np.isfinite(space.whitener).all()


# --- text to image ---------------------------------------------------------------------------


@pytest.fixture(params=[(4, 9), (20, 9)], ids=["few classes", "many classes"])
def regression(request):
    n_seen, n_features = request.param
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(2, n_seen, n_features))
    return text - text.mean(axis=0), image - image.mean(axis=0), rng.uniform(0.2, 1, n_seen)


def penalty_of(text, weight, ridge):
    """Ridge times the mean eigenvalue, over as many as can be positive."""
    eigenvalues = np.linalg.eigvalsh((text.T * weight) @ text)
    return ridge * eigenvalues.sum() / min(text.shape)


@pytest.mark.parametrize("ridge", [0.01, 1.0, 100.0])
def test_text_map_is_the_ridge_regression(regression, ridge):
    text, image, weight = regression
    text_map, _ = text_to_image(text, image, weight, ridge)
    expected = ridge_map(text, image, weight, penalty_of(text, weight, ridge))
    np.testing.assert_allclose(text_map, expected, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0])
def test_held_out_rows_are_those_of_maps_without_the_class(regression, ridge):
    text, image, weight = regression
    _, held_out = text_to_image(text, image, weight, ridge)
    penalty = penalty_of(text, weight, ridge)
    for k in range(len(text)):
        rest = np.arange(len(text)) != k
        without = ridge_map(text[rest], image[rest], weight[rest], penalty)
        np.testing.assert_allclose(held_out[k], text[k] @ without, atol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_the_map_trusts_class_means_as_prototypes_do_with_a_ridge_of_one(data, shrinkage):
    X, y, texts = data
    text_map = fit(data, shrinkage=shrinkage).space.text_map
    text = texts[:SEEN] - texts[:SEEN].mean(axis=0)
    image = class_means(X, y) - class_means(X, y).mean(axis=0)
    weight = np.array(COUNTS[:SEEN]) / (np.array(COUNTS[:SEEN]) + shrinkage)
    expected = ridge_map(text, image, weight, penalty_of(text, weight, 1.0))
    np.testing.assert_allclose(text_map, expected, atol=1e-9)


def test_a_large_ridge_gives_the_identity(regression):
    text, image, weight = regression
    text_map, held_out = text_to_image(text, image, weight, ridge=1e9)
    np.testing.assert_allclose(text_map, np.eye(text.shape[1]), atol=1e-6)
    np.testing.assert_allclose(held_out, text, atol=1e-6)


def test_a_linear_relation_is_recovered():
    rng = np.random.default_rng(0)
    text, relation = rng.normal(size=(200, 6)), rng.normal(size=(6, 6))
    text_map, held_out = text_to_image(text, text @ relation, np.ones(200), ridge=1e-9)
    np.testing.assert_allclose(text_map, relation, atol=1e-6)
    np.testing.assert_allclose(held_out, text @ relation, atol=1e-6)


def test_the_text_map_moves_texts_to_the_means_of_unseen_classes():
    X, y, texts = clip_like([30] * 60, 12, noise=0.5, seed=1)
    known = y < 50
    space = fit_prototypes(
        TrainingSet(X[known], y[known], np.ones(known.sum()), texts, 60), 1.0
    ).space
    truth = class_means(X, y)[50:] - space.image_mean
    mapped = np.linalg.norm(space.prototypes[50:] - truth, axis=1)
    raw = np.linalg.norm(texts[50:] - space.text_mean - truth, axis=1)
    assert (mapped < raw).mean() > 0.8


# --- leaving images out ----------------------------------------------------------------------


def without_image(data, training, i, weight):
    """Prototype of the class of image i and inverse covariance, recomputed without the image."""
    (X, y, _), space = data, training.space
    rest = weight.copy()
    rest[i] -= min(weight[i], 1)
    same = (y == y[i]) & (rest > 0)
    weights = [*rest[same], space.shrinkage]
    prior = training.held_out_priors[y[i]]
    prototype = prior
    if sum(weights) > 0:
        prototype = np.average([*(X[same] - space.image_mean), prior], axis=0, weights=weights)

    def scatter(weights):
        total = np.zeros((X.shape[1], X.shape[1]))
        for k in np.unique(y[weights > 0]):
            rows = (y == k) & (weights > 0)
            residuals = X[rows] - np.average(X[rows], axis=0, weights=weights[rows])
            total += (residuals.T * weights[rows]) @ residuals
        return total

    # target and strength of the shrinkage are those of all images
    freedom = weight.sum() - len(np.unique(y))
    ridge = np.trace(scatter(weight)) / freedom * np.eye(X.shape[1])
    return prototype, np.linalg.inv((scatter(rest) + ridge) / (freedom + X.shape[1]))


WEIGHTS = {
    "ones": np.ones(17),
    "integers": np.arange(17) % 3 + 1.0,
    "parts": 0.4 + np.arange(17) % 2,
}


@pytest.mark.parametrize("shrinkage", [0.0, 1.0, 7.0])
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_what_is_left_out_equals_recomputing(data, shrinkage, weight):
    X, y, _ = data
    training = fit(data, shrinkage=shrinkage, sample_weight=weight)
    space = training.space
    images, own = training.transform_left_out(X, y, weight)
    others = space.transform(space.prototypes)
    for i in range(len(X)):
        x = X[i] - space.image_mean
        prototype, metric = without_image(data, training, i, weight)
        lengths = np.sqrt((x @ metric @ x) * (prototype @ metric @ prototype))
        assert images[i] @ own[i] == pytest.approx(x @ metric @ prototype / lengths, abs=1e-9)
        expected = space.prototypes @ metric @ x / np.sqrt(x @ metric @ x)
        expected /= np.linalg.norm(space.prototypes @ space.whitener, axis=1)
        np.testing.assert_allclose(others @ images[i], expected, atol=1e-9)


def test_what_is_left_out_equals_recomputing_without_text(data):
    X, y, _ = data
    weight = np.ones(len(X))
    training = fit(data, text=False, n_classes=SEEN)
    space = training.space
    images, own = training.transform_left_out(X, y, weight)
    for i in range(len(X)):
        x = X[i] - space.image_mean
        prototype, metric = without_image(data, training, i, weight)
        np.testing.assert_allclose(own[i], prototype @ space.whitener, atol=1e-12)
        assert images[i] @ own[i] == pytest.approx(x @ metric @ prototype, abs=1e-9)


# --- covariance ------------------------------------------------------------------------------


def within_scatter(X, y):
    residuals = [X[y == k] - X[y == k].mean(axis=0) for k in np.unique(y)]
    return sum(r.T @ r for r in residuals)


def shrunk_covariance(scatter, freedom):
    n_features = len(scatter)
    variance = np.trace(scatter) / freedom / n_features
    return (scatter + n_features * variance * np.eye(n_features)) / (freedom + n_features)


def test_whitener_is_a_root_of_the_inverse_of_the_shrunk_covariance(data):
    X, y, _ = data
    whitener = fit(data).space.whitener
    covariance = shrunk_covariance(within_scatter(X, y), len(X) - SEEN)
    np.testing.assert_allclose(
        whitener @ whitener.T, fractional_matrix_power(covariance, -1), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("freedom", [1.0, 2.0])
def test_two_images_of_a_class_have_a_covariance(freedom):
    residual = np.array([[1.0, 2.0, -2.0]])
    whitener = whitening_matrix(residual.T @ residual, freedom)
    covariance = shrunk_covariance(residual.T @ residual, freedom)
    np.testing.assert_allclose(whitener @ whitener.T @ covariance, np.eye(3), atol=1e-12)


def test_whitened_residuals_are_white_when_there_are_many():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    y = np.repeat(np.arange(2), 20_000)
    X = rng.normal(size=(40_000, 4)) @ mixing + y[:, None]
    space = fit_prototypes(TrainingSet(X, y, np.ones(len(X)), None, 2), 1.0).space
    residuals = space.transform(X - class_means(X, y)[y])
    np.testing.assert_allclose(np.cov(residuals.T), np.eye(4), atol=0.03)


@pytest.mark.parametrize("repeats", [1, 4])
def test_without_spread_within_classes_nothing_is_whitened(repeats):
    X, y, texts = clip_like([1, 1, 1, 0], 6)
    space = fit((X.repeat(repeats, axis=0), y.repeat(repeats), texts), n_classes=4).space
    whitened = space.whitener / space.whitener[0, 0]
    np.testing.assert_allclose(whitened, np.eye(6), atol=1e-6)


def test_directions_are_compared_with_text_and_positions_without(data):
    X, _, _ = data
    with_text, without = fit(data).space, fit(data, text=False, n_classes=SEEN).space
    assert np.linalg.norm(with_text.transform_images(X), axis=1) == pytest.approx(1)
    np.testing.assert_allclose(
        without.transform_images(X), (X - without.image_mean) @ without.whitener
    )


# --- without text ----------------------------------------------------------------------------


def test_without_text_prototypes_are_shrunk_to_the_common_mean(data):
    training = fit(data, text=False, n_classes=SEEN)
    space = training.space
    assert space.text_mean is None and space.text_map is None
    counts = np.array(COUNTS[:SEEN])[:, None]
    np.testing.assert_allclose(
        space.prototypes, counts / (counts + space.shrinkage) * training.means
    )


def test_james_stein_recovers_the_ratio_of_variances():
    rng = np.random.default_rng(0)
    n_classes, n_images, d, within, between = 2000, 5, 3, 4.0, 0.5
    means = np.sqrt(between / d) * rng.normal(size=(n_classes, d))
    X = means[:, None] + np.sqrt(within / d) * rng.normal(size=(n_classes, n_images, d))
    observed = X.mean(axis=1)
    scatter = ((X - observed[:, None]) ** 2).sum()
    kappa = james_stein(
        observed - observed.mean(axis=0),
        np.full(n_classes, n_images),
        scatter,
        n_classes * (n_images - 1),
    )
    assert kappa == pytest.approx(within / between, rel=0.1)


@pytest.mark.parametrize("counts", [[1, 3], [1, 2, 6]])
def test_james_stein_has_an_unbiased_variance_between_few_classes(counts):
    rng = np.random.default_rng(0)
    counts, freedom, d, within, between, n_draws = np.array(counts), 1.0, 4, 0.5, 5.0, 4000
    spread = np.sqrt((between + within / counts) / d)[:, None]
    means = spread * rng.normal(size=(n_draws, len(counts), d))
    means -= means.mean(axis=1, keepdims=True)
    estimates = [within / james_stein(m, counts, freedom * within, freedom) for m in means]
    assert np.mean(estimates) == pytest.approx(between, rel=0.05)


def test_james_stein_trusts_means_without_noise_and_distrusts_means_of_noise():
    means = np.random.default_rng(0).normal(size=(5, 2))
    assert james_stein(means, np.ones(5), 0.0, 10.0) == 0.0
    assert james_stein(np.zeros((5, 2)), np.ones(5), 3.0, 10.0) == pytest.approx(1e6)


@pytest.mark.parametrize("scatter", [0.0, 3.0])
def test_james_stein_trusts_means_where_nothing_is_known_of_noise(scatter):
    assert james_stein(np.zeros((5, 2)), np.full(5, 0.5), scatter, 0.0) == 0.0
    assert james_stein(np.zeros((5, 2)), np.full(5, 2.0), 0.0, 5.0) == 0.0


# --- degenerate training sets ----------------------------------------------------------------


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("counts", [[1, 1, 1], [3], [1], [2, 1]])
def test_degenerate_training_sets_give_finite_prototypes(counts, text):
    data = clip_like([*counts, *([0, 0] if text else [])], 6)
    training = fit(data, text=text, n_classes=len(counts) + 2 * text)
    space = training.space
    for array in (space.prototypes, space.whitener, training.held_out_priors):
        assert np.isfinite(array).all()
    for array in training.transform_left_out(data[0], data[1], np.ones(len(data[0]))):
        assert np.isfinite(array).all()


def test_with_one_image_per_class_left_out_images_are_directions():
    X, y, texts = clip_like([1, 1, 1], 6)
    training = fit((X, y, texts), n_classes=3)
    space = training.space
    images, own = training.transform_left_out(X, y, np.ones(3))
    np.testing.assert_allclose(images, unit(X - space.image_mean))
    np.testing.assert_allclose(own, unit(training.held_out_priors))


def test_one_class_does_not_determine_the_map():
    _, _, texts = data = clip_like([3, 0, 0], 6)
    space = fit(data, n_classes=3).space
    np.testing.assert_array_equal(space.text_map, np.eye(6))
    np.testing.assert_allclose(space.prototypes[1:], texts[1:] - texts[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("text", [True, False])
def test_precision_is_kept(data, dtype, text):
    X, y, texts = data
    n_classes = 6 if text else SEEN
    texts = texts.astype(dtype) if text else None
    weight = np.ones(len(X), dtype=dtype)
    training = fit_prototypes(TrainingSet(X.astype(dtype), y, weight, texts, n_classes), 1.0)
    space = training.space
    for name in ("counts", "image_mean", "prototypes", "whitener"):
        assert getattr(space, name).dtype == dtype, name
    assert training.means.dtype == dtype
    left_out = training.transform_left_out(X.astype(dtype), y, np.ones(len(X), dtype=dtype))
    assert [array.dtype for array in left_out] == [dtype, dtype]
    if text:
        grown = space.with_classes(len(texts), texts)
        assert (grown.counts.dtype, grown.prototypes.dtype) == (dtype, dtype)
        np.testing.assert_array_equal(grown.counts, [*COUNTS, *[0] * len(texts)])


@pytest.mark.parametrize("seed", range(6))
def test_nearly_equal_images_of_any_weight_can_be_whitened(seed):
    X, y, texts = clip_like([1, 2, 2], 8, seed=seed)
    X, weight = unit(X[:1] + 1e-7 * X), np.full(len(y), 1e12)
    for kept in (y >= 0, y > 0, y < 2):
        space = fit((X[kept], y[kept], texts), sample_weight=weight[kept], n_classes=3).space
        whitener = space.whitener
        assert np.isfinite(whitener).all() and (np.linalg.svd(whitener)[1] > 0).all()
