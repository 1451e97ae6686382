"""Findings of an image report, compared with independent computations, and its input."""

import io
import os
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.datasets import load_emoji
from skcandle.exceptions import ImageReadError
from skcandle.inspection import ImageReport

CLASSES = ["apple", "cat", "clock", "lemon", "moon"]
NEW = ["moon"]


@pytest.fixture(scope="module")
def data():
    """Images of five classes, one of them without training images."""
    emoji = load_emoji()
    chosen = np.flatnonzero(np.isin(emoji.target, CLASSES))
    images, y = [emoji.images[i] for i in chosen], emoji.target[chosen]
    train = (np.arange(len(y)) % 2 == 0) & ~np.isin(y, NEW)
    return images, y, train


@pytest.fixture(scope="module")
def pipe(data):
    images, y, train = data
    kept = np.flatnonzero(train)
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW, random_state=0)
    return pipe.fit([images[i] for i in kept], y[kept])


@pytest.fixture(scope="module")
def test_set(data):
    images, y, train = data
    kept = np.flatnonzero(~train)
    return [images[i] for i in kept], y[kept]


@pytest.fixture(scope="module")
def files(test_set, tmp_path_factory):
    """Paths and labels of the test images, a copy in another class, and a broken file."""
    folder, paths = tmp_path_factory.mktemp("images"), []
    for number, (image, label) in enumerate(zip(*test_set, strict=True)):
        (folder / label).mkdir(exist_ok=True)
        paths.append(folder / label / f"{number:03d}.png")
        image.save(paths[-1])
    broken = folder / "broken.png"
    broken.write_bytes(b"no image")
    y = test_set[1].tolist()
    other = next(label for label in CLASSES if label != y[0])
    return [*paths, paths[0], broken], [*y, other, "cat"]


@pytest.fixture(scope="module")
def report(pipe, files):
    return ImageReport(pipe, *files)


# --- answers ---------------------------------------------------------------------------------


def test_answers_are_those_of_the_pipeline(report, pipe, files):
    expected = pipe.predict_proba(files[0][:-1])
    assert report.y_pred[:-1].tolist() == pipe.classes_[expected.argmax(axis=1)].tolist()
    np.testing.assert_allclose(report.confidence[:-1], expected.max(axis=1))
    np.testing.assert_allclose(report.embeddings[:-1], pipe[:-1].transform(files[0][:-1]))


def test_images_that_cannot_be_read_have_no_answer_and_a_reason(report, files):
    last = len(files[0]) - 1
    assert list(report.unreadable) == [last]
    assert "broken.png' is not of a known image format" in report.unreadable[last]
    assert report.y_pred[last] is None
    assert np.isnan(report.confidence[last])
    assert np.isnan(report.novelty[last])
    assert np.isnan(report.embeddings[last]).all()


def test_rows_of_nan_are_images_that_could_not_be_read(pipe, test_set):
    def damaged(rows):
        rows = rows.copy()
        rows[2] = np.nan
        return rows

    steps = make_pipeline(pipe[0], FunctionTransformer(damaged), pipe[-1])
    report = ImageReport(steps, *test_set)
    assert report.unreadable == {2: "cannot be read"}
    assert report.y_pred[2] is None


def test_each_image_is_read_once_beside_those_that_cannot_be_read(pipe, files, monkeypatch):
    from skcandle.clip import _image_pipeline

    read, paths = _image_pipeline.read_image, []

    def noting(path):
        paths.append(path)
        return read(path)

    monkeypatch.setattr(_image_pipeline, "read_image", noting)
    ImageReport(pipe, *files)
    assert sorted(paths) == sorted(files[0])


def test_a_transform_that_is_overridden_is_used(pipe, test_set):
    class Turned(CLIPFeaturizer):
        def transform(self, X):
            return super().transform(X)[::-1]

    report = ImageReport(make_pipeline(Turned("emoji-clip"), pipe[-1]), test_set[0])
    np.testing.assert_array_equal(report.embeddings, pipe[:-1].transform(test_set[0])[::-1])


def test_steps_between_are_given_the_images_that_can_be_read(pipe, files):
    def halved(rows):
        assert np.isfinite(rows).all()
        return rows / 2

    steps = make_pipeline(pipe[0], FunctionTransformer(halved), pipe[-1])
    report = ImageReport(steps, *files)
    np.testing.assert_allclose(report.embeddings, ImageReport(pipe, *files).embeddings / 2)
    assert list(report.unreadable) == [len(files[0]) - 1]


def test_embeddings_of_a_data_frame_keep_their_names(pipe, files):
    pd = pytest.importorskip("pandas")
    images, y, _ = files[0][:-2], files[1][:-2], None
    clip = CLIPFeaturizer("emoji-clip").set_output(transform="pandas")
    candle = CandleClassifier(text_encoder=CLIPFeaturizer("emoji-clip"))
    named = Pipeline([("clip", clip), ("candle", candle)]).fit(images, y)
    report = ImageReport(named, [*images, files[0][-1]], [*y, "cat"])
    assert isinstance(named[:-1].transform(images[:1]), pd.DataFrame)
    assert list(report.unreadable) == [len(images)]


def test_accuracy_is_the_mean_recall_of_the_classes(report, files):
    y = np.array(files[1][:-1])
    recall = recall_score(y, report.y_pred[:-1].astype(str), average="macro")
    assert report.accuracy == pytest.approx(recall)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_novelty_of_a_classifier_without_such_a_score(pipe, test_set, n_classes):
    images, y = test_set
    some = np.flatnonzero(np.isin(y, CLASSES[:n_classes]))
    images, y = [images[i] for i in some], y[some]
    other = make_pipeline(pipe[0], LogisticRegression()).fit(images, y)
    report = ImageReport(other, images)
    if n_classes == 2:  # one column of logits says nothing about a third class
        expected = 1 - other.predict_proba(images).max(axis=1)
    else:
        expected = -other.decision_function(images).max(axis=1)
    np.testing.assert_allclose(report.novelty, expected, rtol=1e-5)


def test_a_classifier_may_have_a_novelty_score_of_its_own(pipe, test_set):
    class WithScore(CandleClassifier):
        def novelty_score(self, X):
            return np.arange(len(X), dtype=float)

    candle = WithScore(text_encoder=CLIPFeaturizer("emoji-clip")).fit(
        pipe[:-1].transform(test_set[0]), test_set[1]
    )
    report = ImageReport(make_pipeline(pipe[0], candle), *test_set)
    assert report.novelty.tolist() == list(range(len(test_set[0])))


def test_training_images_are_answered_by_classifiers_fitted_without_them(pipe, data):
    images, y, train = data
    kept = np.flatnonzero(train)
    images, y = [images[i] for i in kept], y[kept]
    report = ImageReport(pipe, images, y)
    candle, X = pipe[-1], pipe[:-1].transform(images)
    text = dict(zip(candle.classes_, candle.text_features_, strict=True))
    for fold, test in KFold(5, shuffle=True, random_state=0).split(X):
        new = sorted(set(CLASSES) - set(y[fold]))
        copy = CandleClassifier(
            new_classes=new,
            text_encoder=text,
            temperature=candle.temperature_,
            prototype_weight=candle.prototype_weight_,
            base_offset=candle.base_offset_,
            max_iter=0,
        ).fit(X[fold], y[fold])
        expected = copy.predict_proba(X[test])
        np.testing.assert_allclose(report.confidence[test], expected.max(axis=1), rtol=1e-4)
    direct = ImageReport(pipe, images, y, is_training=False)
    np.testing.assert_allclose(direct.confidence, pipe.predict_proba(images).max(axis=1))


def test_a_test_set_with_the_class_sizes_of_training_is_not_the_training_set(data):
    images, y, _ = data
    train, test = (
        [i for label in ("apple", "cat") for i in np.flatnonzero(y == label)[part]]
        for part in (slice(0, 2), slice(2, 4))
    )
    pipe = make_candle_pipeline("emoji-clip").fit([images[i] for i in train], y[train])
    report = ImageReport(pipe, [images[i] for i in test], y[test])
    expected = pipe.predict_proba([images[i] for i in test]).max(axis=1)
    np.testing.assert_allclose(report.confidence, expected)
    assert "was fitted on" not in report._repr_html_()


def test_training_images_among_test_images_are_counted_and_answered_without_them(pipe, data):
    images, y, train = data
    report = ImageReport(pipe, images, y)
    expected = pipe.predict_proba(images).max(axis=1)
    np.testing.assert_allclose(report.confidence[~train], expected[~train])
    assert report.confidence[train].mean() < expected[train].mean()
    assert f"was fitted on {train.sum()} of these images" in report._repr_html_()
    direct = ImageReport(pipe, images, y, is_training=False)
    assert direct.confidence[train].mean() == pytest.approx(expected[train].mean())


@pytest.mark.parametrize("kind", ["without text", "other", "not recognised"])
def test_a_page_says_so_if_its_numbers_are_optimistic(pipe, data, kind):
    images, y, train = data
    images, y = [images[i] for i in np.flatnonzero(train)], y[train]
    if kind == "without text":
        pipe = make_pipeline(pipe[0], CandleClassifier(text_encoder=None)).fit(images, y)
    elif kind == "other":
        pipe = make_pipeline(pipe[0], LogisticRegression()).fit(images, y)
    else:
        images = [image.rotate(90) for image in images]
    report = ImageReport(pipe, images, y, is_training=True)
    assert "was fitted on these images. Its predictions" in report._repr_html_()
    np.testing.assert_allclose(report.confidence, pipe.predict_proba(images).max(axis=1))


@pytest.mark.parametrize("around", [lambda clf: clf, FrozenEstimator], ids=["fitted", "frozen"])
def test_training_images_of_a_rejecting_classifier_are_recognised(pipe, data, around):
    images, y, train = data
    images, y = [images[i] for i in np.flatnonzero(train)], y[train]
    rejecting = make_pipeline(pipe[0], RejectingClassifier(around(pipe[-1]), rejection_rate=0.3))
    report = ImageReport(rejecting.fit(images, y), images, y)
    np.testing.assert_allclose(
        report.confidence, ImageReport(pipe, images, y).confidence, atol=1e-6
    )


# --- findings --------------------------------------------------------------------------------


def test_copies_with_several_labels_come_first_among_duplicates(report, files):
    first, last = report.duplicates[0].tolist(), len(files[0]) - 2
    assert first == [0, last]
    flags = [flag for flag in report.flagged() if flag.position == last]
    assert "near-duplicate in another class" in [flag.reason for flag in flags]


def test_a_changed_label_is_found(pipe, test_set):
    pytest.importorskip("cleanlab")
    images, y = test_set
    y = y.copy()
    changed = np.flatnonzero(y == "clock")[0]
    y[changed] = "lemon"
    report = ImageReport(pipe, images, y)
    assert report.label_errors[0] == changed


def test_without_labels_findings_that_need_them_are_none(pipe, test_set):
    report = ImageReport(pipe, test_set[0])
    assert report.accuracy is None
    assert report.label_errors is None
    assert {flag.reason for flag in report.flagged()} <= {"near-duplicate", "least like any class"}


def test_without_cleanlab_there_are_no_label_errors(pipe, test_set, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    report = ImageReport(pipe, *test_set)
    assert report.label_errors is None
    assert 'pip install "skcandle[report]"'.replace('"', "&#34;") in report._page


def test_labels_that_the_classifier_does_not_know_are_errors(pipe, test_set):
    images, y = test_set
    y = y.astype(object)
    y[0] = "gnu"
    report = ImageReport(pipe, images, y)
    assert "does not know 1 of the labels (gnu)" in report._page
    wrong = {flag.position for flag in report.flagged() if flag.reason == "wrong prediction"}
    assert wrong == set(np.flatnonzero(report.y_pred != y))


def test_numbers_are_shown_by_their_names(data):
    images, y, _ = data
    number = np.searchsorted(CLASSES, y)
    pipe = make_candle_pipeline("emoji-clip", class_names=CLASSES, random_state=0)
    report = ImageReport(pipe.fit(images, number), images, number)
    assert set(report.y_pred) <= set(range(5))
    assert {flag.label for flag in report.flagged()} <= set(CLASSES)


def test_a_classifier_of_another_library(pipe, test_set):
    other = make_pipeline(pipe[0], LogisticRegression()).fit(*test_set)
    report = ImageReport(other, *test_set)
    assert report.accuracy > 0.5
    assert "<th" in report._page


def test_the_best_pipeline_of_a_search_is_taken(pipe, test_set):
    search = GridSearchCV(pipe, {"candle__margin": [1.0]}, cv=2)
    search.set_params(estimator__candle__new_classes=None).fit(*test_set)
    assert ImageReport(search, test_set[0][:4]).y_pred.shape == (4,)


# --- search ----------------------------------------------------------------------------------


def test_search_finds_the_images_most_similar_to_a_text(report, pipe, files):
    found = report.search("a yellow lemon", n_images=5)
    X, text = pipe[:-1].transform(files[0][:-1]), pipe[0].encode_text(["a yellow lemon"])[0]
    expected = np.argsort(-(X @ text), kind="stable")[:5]
    assert found.positions.tolist() == expected.tolist()
    np.testing.assert_allclose(found.similarity, (X @ text)[expected], rtol=1e-5)
    assert [row["name"] for row in found.rows()][0] in repr(found)
    assert found._repr_html_().count("data:image/webp") == len(found) == 5


def test_search_needs_words_and_a_text_encoder(report, pipe, test_set):
    with pytest.raises(ValueError, match="text must be words to search for"):
        report.search(" ")
    wordless = make_pipeline(FunctionTransformer(pipe[0].transform), pipe[-1])
    with pytest.raises(ValueError, match="needs a step of the pipeline with encode_text"):
        ImageReport(wordless, test_set[0]).search("cat")


# --- input -----------------------------------------------------------------------------------


def test_anything_but_a_fitted_pipeline_is_an_error(pipe, test_set):
    with pytest.raises(TypeError, match="must be a fitted pipeline .* got CandleClassifier"):
        ImageReport(pipe[-1], test_set[0])
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        ImageReport(make_candle_pipeline("emoji-clip"), test_set[0])
    with pytest.raises(TypeError, match="must be a classifier .* got CLIPFeaturizer"):
        ImageReport(make_pipeline(pipe[0], pipe[0]), test_set[0])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"y": ["cat"]}, "inconsistent numbers of samples"),
        ({"y": ["cat", None, "cat"]}, r"y\[1\] is missing"),
        ({"images": []}, "at least one image"),
        ({"duplicate_similarity": 0.0}, r"duplicate_similarity == 0.0, must be > 0"),
        ({"n_shown": 0}, "n_shown == 0, must be >= 1"),
        ({"thumbnail_size": 0}, "thumbnail_size == 0, must be >= 1"),
        ({"is_training": "no"}, 'is_training must be True, False or "auto"'),
    ],
)
def test_input_that_is_an_error(pipe, test_set, options, message):
    with pytest.raises(ValueError, match=message):
        ImageReport(pipe, **{"images": test_set[0][:3]} | options)


def test_no_readable_image_is_an_error(pipe, files, test_set):
    with pytest.raises(ImageReadError, match="1 of 1 images cannot be read"):
        ImageReport(pipe, files[0][-1:])
    empty = make_pipeline(pipe[0], FunctionTransformer(lambda X: X * np.nan), pipe[-1])
    with pytest.raises(ValueError, match="None of the 3 images can be read"):
        ImageReport(empty, test_set[0][:3])


@pytest.mark.parametrize("kind", ["bytes", "file", "array"])
def test_images_of_any_kind(pipe, test_set, kind):
    def convert(image):
        file = io.BytesIO()
        image.save(file, "PNG")
        return {"bytes": file.getvalue(), "file": file, "array": np.asarray(image)}[kind]

    report = ImageReport(pipe, [convert(image) for image in test_set[0][:4]])
    expected = ImageReport(pipe, test_set[0][:4])
    assert report.y_pred.tolist() == expected.y_pred.tolist()
    assert "image 3" in report._page
    assert "no longer readable" not in report._page


def test_a_photograph_is_turned_upright_in_its_thumbnail(tmp_path):
    from skcandle.inspection._thumbnails import thumbnail

    photo = Image.new("RGB", (3000, 1000), "red")
    photo.paste("blue", (0, 0, 1500, 1000))
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was turned: blue is at the top
    photo.save(tmp_path / "turned.jpg", exif=exif)
    small = thumbnail(tmp_path / "turned.jpg", 90)
    assert small.size == (30, 90)
    assert small.getpixel((15, 10))[2] > 200
    assert small.getpixel((15, 80))[0] > 200


def test_files_that_are_gone_when_the_page_is_made_do_not_stop_it(pipe, test_set, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, image in zip(paths, test_set[0], strict=False):
        image.save(path)
    report = ImageReport(pipe, paths)
    os.remove(paths[1])
    assert f"no longer readable: {tmp_path.name}/1.png" in report._page


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([0, 1], "0 groups of"), ([0, 0, 1], "1 group of"), ([0, 0, 1, 1], "2 groups of")],
)
def test_the_representation_and_the_page_count_groups_in_the_right_number(
    pipe, data, rows, expected
):
    images = data[0]
    unlike = [images[0], images[-1]]
    report = ImageReport(pipe, [unlike[i] for i in rows])
    assert f", {expected} near-duplicates, 0 unreadable)" in repr(report)
    n_groups, noun = expected.split()[:2]
    assert f">{n_groups}</strong> <span>{noun} of near-duplicates<" in report._page
    assert (f"<p>{expected} images that" in report._page) == (n_groups != "0")


def test_one_label_or_one_image_has_nothing_to_compare(pipe, test_set):
    X, y = test_set
    cats = [i for i, label in enumerate(y) if label == "cat"]
    report = ImageReport(pipe, [X[i] for i in cats], y[cats])
    assert list(report.label_errors) == []
    assert repr(report).startswith(f"ImageReport({len(cats)} images, 5 classes, ")
    assert len(ImageReport(pipe, X[:1], y[:1]).label_errors) == 0


def test_without_any_counts_the_tail_is_that_of_the_answers(pipe, test_set):
    class Plain(LogisticRegression):
        """A classifier that does not know how many images it was trained on."""

    X = pipe["clip"].transform(test_set[0])
    plain = make_pipeline(pipe["clip"], Plain().fit(X, test_set[1]))
    report = ImageReport(plain, test_set[0])
    page, n_cats = report._repr_html_(), int((report.y_pred == "cat").sum())
    assert f"cat: {n_cats} predictions" in page
