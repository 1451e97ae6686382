"""Commands that learn from images without labels."""

import csv
from functools import partial

import numpy as np
import pytest
from helpers import clip_like, run_command
from odd_folder import ODD_CLASSES, emoji_of, make_odd_folder
from typer.testing import CliRunner

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    PublishedCandleClassifier,
    make_candle_pipeline,
)
from skcandle.cli._app import app
from skcandle.cli._evaluation import predictions
from skcandle.cli._models import load_model
from skcandle.hub._model_files import to_bytes

MODEL = ["--model", "emoji-clip"]
NAMES = ["fruit", "food", "bird", "insect", "cat"]
KINDS = ["grapes", "pizza", "penguin", "butterfly"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache):
    return partial(run_command, cache)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return make_odd_folder(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def unsorted(tmp_path_factory):
    """Three images each of four kinds, whose names do not say what they show."""
    folder = tmp_path_factory.mktemp("unsorted")
    for i in range(12):
        emoji_of(KINDS[i // 3], i % 3).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def model(labelled, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.skops"
    command = ["fit", str(labelled), "-o", str(path), "--new", "pizza, penguin", *MODEL]
    result = CliRunner().invoke(app, command, env={"SKCANDLE_CACHE": str(cache)})
    assert result.exit_code == 0, result.stderr
    return path


def images_of(folder):
    return [str(path) for path in sorted(folder.iterdir())]


def answers(text):
    return [row["label"].lstrip("'") for row in csv.DictReader(text.splitlines())]


def sentence(before, after):
    """What a command says about answers for images that it has learned from."""
    changed = before != after
    said = "none of their answers changed"
    if changed.any():
        n = len(set(before[changed]) | set(after[changed]))
        said = f"{changed.sum()} of their answers changed, in {n} classes"
    return f"Learned from {len(before)} images without labels: {said}.\n"


# --- predict ---------------------------------------------------------------------------------


def test_names_alone_adapt_to_the_photos_and_one_line_says_what_changed(run, unsorted):
    result = run("predict", unsorted, "--classes", ", ".join(NAMES), "--adapt", *MODEL)
    images = images_of(unsorted)
    pipe = make_candle_pipeline("emoji-clip", new_classes=NAMES).fit([], [])
    before, after = pipe.predict(images), pipe.add_unlabeled(images).predict(images)
    assert answers(result.stdout) == after.tolist()
    assert result.stderr == sentence(before, after)


def test_a_model_adapts_to_the_photos_and_its_file_does_not_change(run, model, unsorted):
    content, images = model.read_bytes(), images_of(unsorted)
    result = run("predict", model, unsorted, "--adapt", "--top", 2)
    pipe = load_model(model)
    adapted = pipe.add_unlabeled(images)
    assert answers(result.stdout) == adapted.predict(images).tolist()
    assert result.stderr == sentence(pipe.predict(images), adapted.predict(images))
    assert model.read_bytes() == content


def test_without_adapt_nothing_is_learned(run, model, unsorted):
    result = run("predict", model, unsorted)
    assert answers(result.stdout) == load_model(model).predict(images_of(unsorted)).tolist()
    assert result.stderr == ""


def test_photos_that_cannot_be_read_teach_nothing(run, unsorted, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    options = ["--classes", ", ".join(NAMES), "--adapt", *MODEL]
    result = run("predict", unsorted, tmp_path / "broken.png", *options)
    expected = run("predict", unsorted, *options)
    assert result.stdout.startswith(expected.stdout)
    assert "Learned from 12 images without labels" in result.stderr
    alone = run("predict", tmp_path, *options, code=1)
    assert "None of the images can be read." in alone.stderr


def test_training_images_among_the_photos_are_left_out(run, model, labelled, unsorted):
    both = run("predict", model, labelled, unsorted, "--adapt")
    assert "Note: 24 of 36 images are training images with labels" in both.stderr
    assert "Learned from 12 images without labels" in both.stderr
    n_rows = len(images_of(unsorted))
    alone = run("predict", model, unsorted, "--adapt")
    assert both.stdout.splitlines()[-n_rows:] == alone.stdout.splitlines()[-n_rows:]
    none = run("predict", model, labelled, "--adapt")
    assert "There are no images without labels to learn from." in none.stderr
    assert none.stdout == run("predict", model, labelled).stdout


def test_a_model_of_the_published_method_cannot_adapt(run, model, unsorted, tmp_path):
    pipe = load_model(model)
    candle = PublishedCandleClassifier(text_encoder=pipe["clip"], max_iter=1)
    pipe = CandlePipeline([("clip", pipe["clip"]), ("candle", candle)])
    images = images_of(unsorted)
    path = tmp_path / "published.skops"
    path.write_bytes(to_bytes(pipe.fit(images, ["a", "b"] * (len(images) // 2))))
    message = run("predict", path, unsorted, "--adapt", code=1).stderr
    assert message == (
        f"Error: --adapt needs a model from `skcandle fit`; '{path}' holds a "
        "PublishedCandleClassifier, which cannot learn from images without labels.\n"
    )
    run("predict", path, unsorted)


def test_a_model_that_rejects_adapts_and_keeps_rejecting(run, labelled, unsorted, tmp_path):
    path = tmp_path / "model.skops"
    run("fit", labelled, "-o", path, "--new", "pizza", "--reject", "0.2", *MODEL)
    images = images_of(unsorted)
    expected = load_model(path).add_unlabeled(images).predict(images)
    result = run("predict", path, unsorted, "--adapt")
    assert answers(result.stdout) == ["" if a == "unknown" else a for a in expected]


def test_names_are_listed_once_and_there_are_at_least_two(run, unsorted):
    photo = unsorted / "00.png"
    twice = run("predict", photo, "--classes", "fruit, bird, fruit", "--top", 3, *MODEL).stdout
    assert twice == run("predict", photo, "--classes", "fruit, bird", "--top", 3, *MODEL).stdout
    message = run("predict", photo, "--classes", "fruit", *MODEL, code=2).stderr
    assert "Give at least two names" in message


# --- fit -------------------------------------------------------------------------------------


def test_fit_learns_from_unlabelled_photos_as_the_library_does(
    run, model, labelled, unsorted, tmp_path
):
    path = tmp_path / "model.skops"
    names = ["--new", "pizza, penguin", "--unlabeled", unsorted]
    result = run("fit", labelled, "-o", path, *names, *MODEL)
    images = images_of(unsorted)
    plain, fitted = load_model(model), load_model(path)
    expected = plain.add_unlabeled(images)
    np.testing.assert_allclose(
        fitted.predict_proba(images), expected.predict_proba(images), atol=1e-6
    )
    assert result.stderr.endswith(sentence(plain.predict(images), expected.predict(images)))
    assert "Estimate for new images" in result.stdout


def test_names_and_unlabelled_photos_make_a_model(run, unsorted, tmp_path):
    path = tmp_path / "model.skops"
    names = ["--new", ", ".join(NAMES)]
    result = run("fit", *names, "--unlabeled", unsorted, "-o", path, *MODEL)
    assert result.stdout == "" and "Learned from 12 images without labels" in result.stderr
    adapted = run("predict", unsorted, "--classes", ", ".join(NAMES), "--adapt", *MODEL).stdout
    assert run("predict", path, unsorted).stdout == adapted
    candle = load_model(path)["candle"]
    assert candle.is_new_.all() and candle.unlabeled_count_.sum() > 0
    info = run("info", path).stdout
    n_images = candle.unlabeled_count_.sum()
    assert f"unlabelled  about {n_images:.0f} images of these classes" in info
    k = candle.unlabeled_count_.argmax()
    count = f"by name only, about {candle.unlabeled_count_[k]:.0f} unlabelled"
    assert any(
        line.startswith(candle.classes_[k]) and line.endswith(count) for line in info.splitlines()
    )


def test_a_model_of_names_alone_answers_as_zero_shot_and_goes_on(run, labelled, unsorted, tmp_path):
    path, grown = tmp_path / "model.skops", tmp_path / "grown.skops"
    run("fit", "--new", ", ".join(NAMES), "-o", path, *MODEL)
    zero_shot = run("predict", unsorted, "--classes", ", ".join(NAMES), *MODEL).stdout
    assert run("predict", path, unsorted).stdout == zero_shot
    run("add-images", path, labelled, "-o", grown)
    assert load_model(grown)["candle"].class_count_.sum() == 24
    assert "unlabelled" not in run("info", path).stdout


def test_a_model_that_has_adapted_is_evaluated_and_changed_as_others(
    run, labelled, unsorted, tmp_path
):
    path = tmp_path / "model.skops"
    run("fit", labelled, "-o", path, "--new", "pizza", "--unlabeled", unsorted, *MODEL)
    out = run("evaluate", path, labelled).stdout
    assert "fitted on all 24 images. These are predicted with copies of the model without" in out
    run("add", path, "quagga", "-o", tmp_path / "added.skops")
    run("restrict", tmp_path / "added.skops", "pizza, quagga", "-o", tmp_path / "small.skops")
    assert load_model(tmp_path / "small.skops").classes_.tolist() == ["pizza", "quagga"]


def test_labels_of_a_fold_have_no_influence_on_the_estimate_of_fit(
    run, labelled, unsorted, tmp_path
):
    """The copies learn from the unlabelled photos anew, without the labels of their fold."""
    from skcandle.classifier._out_of_fold import training_images
    from skcandle.datasets import load_image_folder

    names = ["--new", "pizza, penguin", "--unlabeled", unsorted]
    out = run("fit", labelled, "-o", tmp_path / "m.skops", *names, *MODEL).stdout
    data = load_image_folder(labelled)
    pipe = make_candle_pipeline("emoji-clip", new_classes=["pizza", "penguin"])
    candle = pipe.fit(data.images, data.target)["candle"]
    X, U = (pipe["clip"].transform(images) for images in (data.images, images_of(unsorted)))
    loss = np.empty(len(X))
    for rows, copy in training_images(candle, X)[1]:
        log_proba = copy.add_unlabeled(U).predict_log_proba(X[rows])
        column = np.searchsorted(copy.classes_, data.target[rows])
        loss[rows] = -log_proba[np.arange(len(rows)), column]
    assert f"log-loss                   {loss.mean():.3f}\n" in out


def test_the_estimate_of_fit_does_not_repeat_the_warning_of_the_model(recwarn):
    X, y, texts = clip_like([6] * 30, 16, noise=0.5)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)), max_iter=0).fit(X, y)
    assert predictions(clf, X, None, unlabelled=-X).is_out_of_fold
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Most unlabelled images look like none"):
        clf.add_unlabeled(-X)


def test_unlabelled_photos_that_cannot_be_read_stop_fit_or_are_skipped(
    run, labelled, unsorted, tmp_path
):
    broken, path = tmp_path / "broken.png", tmp_path / "model.skops"
    broken.write_bytes(b"broken")
    options = ["--unlabeled", unsorted, "--unlabeled", broken, "-o", path, *MODEL]
    message = run("fit", labelled, *options, code=1).stderr
    assert "1 of 13 images cannot be used" in message and not path.exists()
    result = run("fit", labelled, *options, "--on-error", "skip")
    assert "Learned from 12 images without labels" in result.stderr
    assert set(load_model(path).classes_) == set(ODD_CLASSES)


@pytest.mark.parametrize(
    "args, code, message",
    [
        ([], 2, "Give photos, or the names of classes with --new or --names."),
        (["--new", "okapi"], 1, "There is only one class, 'okapi'."),
        (["--new", "a, b", "--unlabeled", "nowhere"], 1, "The folder 'nowhere' does not exist."),
    ],
)
def test_wrong_usage_of_fit_is_explained(run, args, code, message, tmp_path):
    assert message in run("fit", "-o", tmp_path / "m.skops", *args, *MODEL, code=code).stderr
