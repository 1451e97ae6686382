"""The labelling loop: labels, classes, answers, orders, progress, and what comes out."""

import csv
import unicodedata

import numpy as np
import pytest
from helpers import clip_like
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binomtest

from skcandle import CandleClassifier, CLIPFeaturizer, make_candle_pipeline
from skcandle.datasets import load_emoji, load_image_table
from skcandle.hub import load_pipeline
from skcandle.labelling import NONE, SKIP, UNLABELLED, LabellingSession
from skcandle.labelling._answers import WEIGHTS
from skcandle.labelling._table import labels_in_table, path_in_table

ANIMALS = ["ant", "bee", "cat", "dog", "elk"]
X, Y, TEXTS = clip_like([12, 10, 8, 6, 4], 16, noise=0.5)
UNIT = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
TEXT = dict(zip(ANIMALS, TEXTS, strict=True))
TRUTH = np.array(ANIMALS)[Y]


def new_session(classes=ANIMALS, **options):
    return LabellingSession(
        list(range(len(X))), X, **{"classes": classes, "text_encoder": TEXT} | options
    )


@pytest.fixture
def animals():
    return new_session()


def label_all(session, rows):
    for row in rows:
        session.label([row], str(TRUTH[row]))


# --- labels and classes ------------------------------------------------------------------------


def test_a_label_is_the_position_of_its_class_or_one_of_three_others(animals):
    animals.label([0, 2], "bee")
    animals.label([1], NONE)
    animals.label([3], SKIP)
    assert animals.labels[:5].tolist() == [1, NONE, 1, SKIP, UNLABELLED]
    animals.label([0], UNLABELLED)
    assert animals.labels[0] == UNLABELLED


def test_a_new_name_makes_a_class_at_once_which_goes_with_its_last_image():
    session = new_session(["ant"])
    session.label([0, 1], "bee")
    session.label([0], "cat")
    assert session.class_names == ["ant", "bee", "cat"]
    session.label([1], "ant")
    assert session.class_names == ["ant", "cat"]
    session.label([0, 1], NONE)
    assert session.class_names == ["ant"]  # it was there from the beginning


def test_an_added_class_stays_without_images(animals):
    session = new_session(["ant"])
    session.add_class("bee")
    session.label([0], "bee")
    session.label([0], "ant")
    assert session.class_names == ["ant", "bee"]
    assert (session.undo(), session.undo(), session.undo()) == ([0], [0], [])
    assert session.class_names == ["ant"]


@pytest.mark.parametrize("name", ["Snow leopard", "snow_leopard", " SNOW LEOPARD", "snow-leopard"])
def test_a_name_that_reads_like_a_class_is_refused(name):
    session = new_session(["snow leopard"], text_encoder=lambda prompts: TEXTS[: len(prompts)])
    with pytest.raises(ValueError, match="'snow leopard' exists already"):
        session.label([0], name)
    assert session.labels[0] == UNLABELLED


def test_the_unicode_forms_of_a_name_are_one_class():
    session = new_session(["café"], text_encoder=lambda prompts: TEXTS[: len(prompts)])
    session.label([0], unicodedata.normalize("NFD", "café"))
    assert session.class_names == ["café"] and session.labels[0] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (" _ ", "blank"),
        ("x" * 201, "at most 200 characters, got 201"),
        ("two\nlines", "cannot be printed"),
        ("=1+1", "reads as a formula"),
        (7, "must be a string"),
        (None, "must be a string"),
    ],
)
def test_names_that_files_cannot_hold_are_refused(animals, name, message):
    with pytest.raises((TypeError, ValueError), match=message):
        animals.label([0], name)
    assert not animals.can_undo


def test_a_name_that_cannot_be_embedded_is_not_stored(animals):
    with pytest.raises(ValueError, match="no vector for the label 'zebra'"):
        animals.label([0], "zebra")
    with pytest.raises(ValueError, match="no vector for the label 'zebra'"):
        animals.add_class("zebra")
    assert animals.class_names == ANIMALS and not animals.can_undo


@pytest.mark.parametrize(
    ("indices", "message"),
    [([40], "no image 40"), ([-1], "no image -1"), ([1, 1], "twice"), ([0.5], "list of integers")],
)
def test_indices_of_other_images_are_refused(animals, indices, message):
    with pytest.raises((TypeError, ValueError), match=message):
        animals.label(indices, "ant")
    assert animals.version == new_session().version


def test_a_list_gives_each_image_its_answer_as_one_action(animals):
    animals.label([4, 2, 7, 9], ["bee", "cat", SKIP, "bee"])
    assert animals.labels[[2, 4, 7, 9]].tolist() == [2, 1, SKIP, 1]
    with pytest.raises(ValueError, match="answer has 1 entries for 2 images"):
        animals.label([0, 1], ["ant"])
    assert animals.undo() == [4, 2, 7, 9]
    assert not animals.can_undo and set(animals.labels) == {UNLABELLED}


def test_every_change_has_another_version(animals):
    versions = [animals.version]
    for change in (
        lambda: animals.label([0], "ant"),
        lambda: animals.label([1], SKIP),
        animals.undo,
        animals.redo,
    ):
        change()
        versions.append(animals.version)
    assert len(set(versions)) == len(versions)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [[], [0], [0, 1, 13]])
def test_answers_follow_from_names_labels_and_images_without_labels(animals, labelled):
    label_all(animals, labelled)
    of_names = CandleClassifier(new_classes=ANIMALS, text_encoder=TEXT, **WEIGHTS).fit(UNIT[:0], [])
    grown = of_names.add_images(UNIT[labelled], TRUTH[labelled]) if labelled else of_names
    grown = grown.add_unlabeled(np.delete(UNIT, labelled, axis=0))
    proba, answers = grown.predict_proba(UNIT), animals.answers
    assert_array_equal(answers.label, proba.argmax(axis=1))
    assert_allclose(answers.probability, proba.max(axis=1), rtol=1e-4)
    second, first = np.sort(proba, axis=1)[:, -2:].T
    assert_allclose(answers.doubt, 1 - (first - second), atol=1e-5)


def test_a_classifier_of_names_learns_as_one_that_is_fitted_on_the_images():
    rows = [0, 13, 25, 26]
    of_names = CandleClassifier(new_classes=ANIMALS, text_encoder=TEXT, **WEIGHTS).fit(UNIT[:0], [])
    fitted = CandleClassifier(new_classes=["dog", "elk"], text_encoder=TEXT, **WEIGHTS)
    fitted.fit(UNIT[rows], TRUTH[rows])
    grown = of_names.add_images(UNIT[rows], TRUTH[rows])
    assert_allclose(grown.predict_proba(UNIT), fitted.predict_proba(UNIT), atol=1e-5)
    assert grown._model.single_images.weight == WEIGHTS["single_image_weight"]


def test_images_without_labels_teach_again_after_each_eighth_of_the_labels(animals):
    label_all(animals, [*range(9)])
    counts = []
    for row in range(9, 20):
        counts.append(animals.classifier._model.unlabeled.counts.sum())
        label_all(animals, [row])
    # 9 | 10 11 | 12 13 | 14 15 | 16 17 18 19
    assert [a == b for a, b in zip(counts, counts[1:], strict=False)] == [
        False, True, False, True, False, True, False, True, True, True,
    ]  # fmt: skip


def teaches_without_labels(session):
    return hasattr(session.classifier._model, "unlabeled")


def test_with_four_labels_per_class_only_labels_teach():
    session = new_session(["ant", "bee"])
    label_all(session, [0, 1, 2, 3, 13, 14, 15])
    assert teaches_without_labels(session)
    label_all(session, [16])
    assert not teaches_without_labels(session)
    session.undo()
    assert teaches_without_labels(session)


def test_only_labels_teach_if_most_classes_came_with_a_label():
    session = new_session(["ant"])
    label_all(session, [13])
    assert session.class_names == ["ant", "bee"] and teaches_without_labels(session)
    label_all(session, [25])
    assert session.class_names == ["ant", "bee", "cat"] and not teaches_without_labels(session)


def test_the_only_class_is_the_answer_for_all_images():
    session = new_session(["ant"])
    assert session.classifier is None
    assert set(session.answers.label) == {0} and set(session.answers.probability) == {1}


def test_answers_follow_a_classifier_that_has_learned_all_labels(animals):
    label_all(animals, [0, 5, 13, 25, 33])
    classifier = animals.classifier
    counts = dict(zip(classifier.classes_.tolist(), classifier.class_count_.tolist(), strict=True))
    assert counts == {"ant": 2, "bee": 1, "cat": 1, "dog": 1, "elk": 0}
    proba = classifier.predict_proba(animals._X)
    answers = animals.answers
    names = np.array(animals.class_names)
    assert_array_equal(names[answers.label], classifier.predict(animals._X))
    assert_allclose(answers.probability, proba.max(axis=1), rtol=1e-5)
    logits = classifier.decision_function(animals._X)
    assert_allclose(answers.novelty, -logits.max(axis=1), rtol=1e-5)


def test_answers_for_some_images_are_those_for_all(animals):
    label_all(animals, [0, 13, 25])
    for column, of_all in zip(animals.answer([7, 3]), animals.answers, strict=True):
        assert_allclose(column, of_all[[7, 3]], atol=1e-6)


def test_images_without_a_class_teach_nothing(animals):
    label_all(animals, [0, 13])
    before = animals.answers
    animals.label([1], NONE)
    animals.label([2], SKIP)
    assert_array_equal(animals.answers.probability, before.probability)


def test_without_classes_there_are_no_answers_until_the_first_label():
    session = new_session([])
    assert set(session.answers.label) == {-1}
    for by in ("help", "doubt", "none", "random"):
        assert_array_equal(session.next(5, by), session.next(5, "random"))
    session.label([0], "ant")
    assert set(session.answers.label) == {0}


def test_a_fitted_classifier_is_where_labelling_starts():
    first = np.flatnonzero(np.isin(TRUTH, ["ant", "bee"]))
    start = CandleClassifier(text_encoder=TEXT).fit(X[first], TRUTH[first])
    session = new_session(["cat"], classifier=start)
    assert session.class_names == ["ant", "bee", "cat"]
    grown = start.add_classes({"cat": TEXT["cat"]}).add_unlabeled(UNIT)
    assert_allclose(session.answers.probability, grown.predict_proba(UNIT).max(axis=1), rtol=1e-4)
    session.label([25], "cat")
    assert session.classifier.class_count_.tolist() == [12, 10, 1]


def test_a_classifier_without_text_cannot_be_the_start():
    start = CandleClassifier(text_encoder=None).fit(X, TRUTH)
    with pytest.raises(ValueError, match="fitted with text"):
        new_session(classifier=start)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(X[:3], "one row per image, 40 rows"), (np.where(X == X[0, 0], np.nan, X), "NaN")],
)
def test_embeddings_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        LabellingSession(list(range(40)), rows, text_encoder=TEXT)


# --- which images come next --------------------------------------------------------------------


def test_help_chooses_of_the_most_doubtful_images_those_that_cover_the_classes(animals):
    label_all(animals, [0, 13, 25])
    doubtful = animals.next(12, "doubt")
    expected = doubtful[animals.classifier.choose_to_label(animals._X[doubtful], 4)]
    assert_array_equal(animals.next(4), expected)
    assert len(animals.next(100)) == 37 and len(animals.next(0)) == 0


@pytest.mark.parametrize("by, field", [("doubt", "doubt"), ("none", "novelty")])
def test_orders_by_an_answer_show_unlabelled_images_with_the_largest_first(animals, by, field):
    label_all(animals, [0, 13, 25])
    values = getattr(animals.answers, field)
    found = animals.next(100, by)
    assert set(found) == set(range(40)) - {0, 13, 25}
    assert np.all(np.diff(values[found]) <= 1e-6)


def test_the_images_of_a_class_are_those_answered_so_the_most_probable_first(animals):
    label_all(animals, [0, 13, 25])
    answers = animals.answers
    found = animals.next(100, "class", class_name="bee")
    expected = np.flatnonzero((answers.label == 1) & (animals.labels == UNLABELLED))
    assert set(found) == set(expected) and len(found)
    assert np.all(np.diff(answers.probability[found]) <= 1e-6)


def test_images_like_another_or_like_words_come_by_similarity():
    session = new_session(text_encoder=lambda prompts: np.tile(TEXTS[3], (len(prompts), 1)))
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    like_image = np.argsort(-(rows @ rows[4]), kind="stable")
    assert session.next(3, "image", image=4).tolist() == like_image[1:4].tolist()
    assert 4 not in session.next(1000, "image", image=4)
    like_words = np.argsort(-(rows @ TEXTS[3]), kind="stable")
    assert session.next(3, "words", words="a dog").tolist() == like_words[:3].tolist()


def test_labelled_images_come_with_the_latest_first(animals):
    animals.label([3], "ant")
    animals.label([9], "bee")
    animals.label([5], NONE)
    assert animals.next(2, "labelled").tolist() == [5, 9]
    assert animals.next(9, "labelled", class_name="ant").tolist() == [3]
    assert animals.next(9, "labelled", class_name=NONE).tolist() == [5]


def test_answers_of_an_earlier_moment_may_select_images_without_waiting(animals):
    label_all(animals, [0, 13])
    before = animals.answers
    label_all(animals, [25, 33])
    found = animals.next(5, "doubt", wait=False)
    assert animals._answered[1] is before  # nothing was computed for all images
    assert_array_equal(found, animals.next(5, "doubt"))


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("luck", "by must be one of"),
        ("class", "no class None"),
        ("words", "must be a text"),
        ("image", "list of integers"),
    ],
)
def test_an_order_that_lacks_something_says_so(animals, by, message):
    with pytest.raises((TypeError, ValueError), match=message):
        animals.next(3, by)


def test_a_mapping_to_vectors_cannot_search_by_words(animals):
    with pytest.raises(ValueError, match="embeds any text"):
        animals.next(3, "words", words="a dog")


# --- progress ----------------------------------------------------------------------------------


def test_the_accuracy_is_the_share_of_labels_that_agree_with_what_was_shown(animals):
    for row, shown in enumerate(["ant", "ant", "bee", "ant"]):
        animals.label([row], "ant", shown=[shown], order="doubt")
    animals.label([4], "ant")  # nothing was shown
    animals.label([5], NONE, shown=["ant"])
    animals.label([6], SKIP, shown=["ant"])
    progress = animals.progress
    assert (progress.n_labelled, progress.n_skipped, progress.n_compared) == (6, 1, 5)
    assert progress.accuracy == 3 / 5 and not progress.drawn_at_random
    expected = binomtest(3, 5).proportion_ci(method="wilson")
    assert_allclose(progress.interval, expected)
    assert [point[0] for point in progress.curve] == [1, 2, 3, 4, 6]
    assert_allclose([point[1] for point in progress.curve], [1, 1, 2 / 3, 3 / 4, 3 / 5])


def test_a_corrected_label_is_compared_with_what_was_shown_first(animals):
    animals.label([0], "bee", shown=["ant"])
    animals.label([0], "ant", shown=["bee"])
    assert animals.progress.accuracy == 1 and animals.progress.n_compared == 1


def test_twenty_images_drawn_at_random_are_the_estimate():
    session = new_session()
    for row in range(19):
        session.label([row], "ant", shown=["ant"], order="random")
    session.label([30], "ant", shown=["bee"], order="doubt")
    assert session.progress.accuracy == 19 / 20 and not session.progress.drawn_at_random
    session.label([31], "ant", shown=["ant"], order="random")
    assert session.progress.accuracy == 1 and session.progress.drawn_at_random


def test_only_the_latest_hundred_labels_count():
    session = LabellingSession(
        list(range(120)), np.eye(120), classes=["a", "b"], text_encoder=lambda p: np.eye(120)[:2]
    )
    session.label(list(range(20)), "a", shown=["b"] * 20)
    session.label(list(range(20, 120)), "a", shown=["a"] * 100)
    progress = session.progress
    assert (progress.accuracy, progress.n_compared, len(progress.curve)) == (1, 100, 50)


# --- folders -----------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """24 photos without classes, of four kinds, and a broken one; their names tell their class."""
    emoji, folder = load_emoji(), tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("bird", "fish", "clock", "house"):
        for i, row in enumerate(np.flatnonzero(emoji.target == name)[:6]):
            place = folder / "more" if i % 2 else folder
            emoji.images[row].save(place / f"{name} {i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def open_session(photos, tmp_path):
    clip = CLIPFeaturizer("emoji-clip", cache=tmp_path / "cache")

    def open_session(folder=photos, output=tmp_path / "labels.csv", **options):
        return LabellingSession.open(folder, output, **{"model": clip} | options)

    return open_session


def kind(name):
    return name.split("/")[-1].split()[0]


def test_a_folder_is_read_and_never_written(open_session, photos):
    before = {path: path.stat().st_mtime_ns for path in [photos, *photos.rglob("*")]}
    with open_session(classes=["bird"]) as session:
        assert session.n_images == 24 and "more/bird 1.png" in session.names
        assert [path for path, _ in session.problems] == [str(photos / "broken.png")]
        session.label([0], "fish")
    assert {path: path.stat().st_mtime_ns for path in [photos, *photos.rglob("*")]} == before


def test_the_next_session_goes_on_where_one_stopped(open_session):
    with open_session(classes=["bird"]) as session:
        session.label([0], "fish", shown=["bird"])
        session.label([1], NONE)
        session.undo()
        before = session.labels.tolist(), session.class_names, session.progress
        probability = session.answers.probability
    with open_session() as session:
        assert (session.labels.tolist(), session.class_names, session.progress) == before
        assert_array_equal(session.answers.probability, probability)
        assert session.redo() == [1]
        assert session.undo() == [1] and session.undo() == [0] and session.undo() is None
        assert session.class_names == ["bird"]


def test_labels_of_files_that_are_gone_come_back_with_them(open_session, photos, tmp_path):
    with open_session() as session:
        names = session.names
        session.label([0, 1], "bird")
    (photos / names[0]).rename(tmp_path / "away.png")
    with open_session() as session:
        assert session.next(9, "labelled").tolist() == [session.names.index(names[1])]
        assert session.undo() == [session.names.index(names[1])]
        session.redo()
    (tmp_path / "away.png").rename(photos / names[0])
    with open_session() as session:
        assert len(session.next(9, "labelled")) == 2


def test_the_table_says_who_said_what(open_session, tmp_path):
    with open_session(classes=["bird", "clock"]) as session:
        session.label([0], "fish")
        session.label([1], NONE)
        session.label([2], SKIP)
        answers, names = session.answers, session.class_names
        images = session.images
    data = load_image_table(tmp_path / "labels.csv")
    assert data.images == images[:1] + images[3:]
    assert data.target.tolist() == ["fish", *(names[i] for i in answers.label[3:])]
    with open(tmp_path / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["who"] for row in rows] == ["person"] + ["model"] * 21
    assert rows[0]["probability"] == ""
    assert_allclose([float(row["probability"]) for row in rows[1:]], answers.probability[3:], 1e-3)


def test_what_a_person_changed_in_the_table_is_taken_over(open_session, tmp_path):
    with open_session(classes=["bird"]) as session:
        session.label([0, 1], "fish")
        names = session.names
    table = tmp_path / "labels.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("fish", "clock")
    table.write_text("\n".join(lines).replace(",", ";"))  # as some spreadsheets do
    with open_session() as session:
        assert session.class_names == ["bird", "fish", "clock"]
        assert session.labels[:3].tolist() == [2, 1, UNLABELLED]
    (tmp_path / "labels.journal.jsonl").unlink()
    with open_session() as session:  # the table alone is enough
        assert [session.class_names[i] for i in session.labels[:2]] == ["clock", "fish"]
        assert session.names == names


def test_an_earlier_table_changes_nothing_after_the_process_was_killed(open_session, tmp_path):
    with open_session() as session:
        session.label([0], "bird")
    with open_session() as session:
        session.label([0], "fish")
        session._journal.close()  # as if it was killed: the table still says bird
    with open_session() as session:
        assert session.class_names == ["fish"]


def test_other_tables_are_not_replaced(open_session, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("file,kind\nphotos/a.png,cat\n")
    with pytest.raises(ValueError, match="not a table of labels from this command"):
        open_session()
    assert table.read_text() == "file,kind\nphotos/a.png,cat\n"
    open_session(output=tmp_path / "other.csv").close()  # the folder is not locked any more


def test_no_cell_of_a_path_is_a_formula(tmp_path):
    assert path_in_table(tmp_path / "=1+1.png", tmp_path) == "./=1+1.png"
    assert path_in_table(tmp_path / "a" / "b.png", tmp_path) == "a/b.png"
    assert path_in_table(tmp_path / "b.png", tmp_path / "a") == "../b.png"
    table = tmp_path / "labels.csv"
    table.write_text("image,label,who\n./=1+1.png,cat,person\nb.png,cat,model\n")
    assert labels_in_table(table) == [("./=1+1.png", "cat")]


@pytest.mark.slow
def test_the_saved_model_is_fitted_on_the_labels(open_session, tmp_path):
    with open_session(classes=["clock"]) as session:
        for i, name in enumerate(session.names):
            if kind(name) in ("bird", "fish"):
                session.label([i], kind(name))
        pipe = load_pipeline(session.save_model(tmp_path / "model.skops"))
        images = session.images
        expected = session.fit().predict_proba(session._X)
    assert pipe.classes_.tolist() == ["bird", "clock", "fish"]
    assert pipe["candle"].class_count_.tolist() == [6, 0, 6]
    assert_allclose(pipe.predict_proba(images), expected, atol=1e-5)


def test_names_alone_and_images_without_labels_are_a_model(open_session, tmp_path):
    with open_session(classes=["bird", "clock"]) as session:
        pipe = load_pipeline(session.save_model(tmp_path / "model.skops"))
    assert pipe["candle"].class_count_.tolist() == [0, 0]
    assert pipe["candle"].unlabeled_count_.min() > 0


def test_a_session_that_starts_from_a_pipeline_saves_a_grown_one(open_session, photos, tmp_path):
    birds = [str(path) for path in sorted(photos.rglob("bird*"))]
    clocks = [str(path) for path in sorted(photos.rglob("clock*"))]
    pipe = make_candle_pipeline("emoji-clip")
    pipe.fit(birds + clocks, ["bird"] * 6 + ["clock"] * 6)
    with open_session(model=pipe) as session:
        assert session.class_names == ["bird", "clock"]
        fish = [i for i, name in enumerate(session.names) if kind(name) == "fish"]
        session.label(fish, "fish")
        grown = load_pipeline(session.save_model(tmp_path / "model.skops"))
    assert grown["candle"].class_count_.tolist() == [6, 6, 6]
    assert pipe.classes_.tolist() == ["bird", "clock"]


def test_copies_are_sorted_into_folders_of_classes(open_session, tmp_path):
    with open_session(classes=["bird", "clock"]) as session:
        session.label([0], NONE)
        session.label([1], "fish")
        answers = [session.class_names[i] for i in session.answers.label[2:]]
        names = [name.split("/")[-1] for name in session.names]
        assert session.sort_into(tmp_path / "sorted") == 24
    found = {path.name: path.parent.name for path in (tmp_path / "sorted").rglob("*.png")}
    assert found == dict(zip(names, ["unknown", "fish", *answers], strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "labels.txt"}, "must be a .csv file"),
        ({"classes": ["cat", "Cat"]}, "'cat' exists already"),
        ({"folder": "nowhere"}, "does not exist"),
    ],
)
def test_what_cannot_be_opened_says_why(open_session, tmp_path, options, message):
    options = {
        key: tmp_path / value if key != "classes" else value for key, value in options.items()
    }
    with pytest.raises((OSError, ValueError), match=message):
        open_session(**options)


def test_a_folder_without_readable_images_is_refused(open_session, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ValueError, match="contains no image"):
        open_session(folder=folder)
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="None of the images .* can be read"):
        open_session(folder=folder)


def test_without_classes_there_is_no_table(open_session, tmp_path):
    with open_session() as session, pytest.raises(ValueError, match="No image has a class yet"):
        session.to_csv()
    assert not (tmp_path / "labels.csv").exists()
    with pytest.raises(ValueError, match="open a folder"):
        new_session().to_csv()


def test_models_need_two_classes(open_session, tmp_path):
    with open_session() as session:
        for _ in range(2):
            with pytest.raises(ValueError, match="at least two classes"):
                session.save_model(tmp_path / "model.skops")
            session.label([0], "bird")
        with pytest.raises(ValueError, match=r"must end in \.skops"):
            session.save_model(tmp_path / "model.bin")
    assert not (tmp_path / "model.skops").exists()
    with pytest.raises(ValueError, match="use its method fit"):
        new_session().save_model(tmp_path / "model.skops")
