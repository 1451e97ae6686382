"""The commands, on a folder with odd and broken files."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import run_command, save_tiny_clip
from odd_folder import ODD_CLASSES, break_folder, emoji_of, make_odd_folder
from typer.testing import CliRunner

import skcandle
from skcandle import _files, _version
from skcandle.cli._app import app
from skcandle.cli._images import default_cache
from skcandle.cli._models import load_model
from skcandle.cli._sorting import folder_names
from skcandle.hub._model_files import to_bytes

MODEL = ["--model", "emoji-clip"]
SECONDS = 120


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache):
    return partial(run_command, cache)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return make_odd_folder(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    root = make_odd_folder(tmp_path_factory.mktemp("broken"))
    break_folder(root)
    return root


@pytest.fixture(scope="module")
def model(odd, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.skops"
    command = ["fit", str(odd), "-o", str(path), "--new", "okapi, saola", *MODEL]
    result = CliRunner().invoke(app, command, env={"SKCANDLE_CACHE": str(cache)})
    assert result.exit_code == 0, result.stderr
    return path


def table_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- fit -------------------------------------------------------------------------------------


def test_fit_learns_folders_and_names(model):
    candle = load_model(model)["candle"]
    assert set(candle.classes_) == {*ODD_CLASSES, "okapi", "saola"}
    assert candle.classes_[candle.is_new_].tolist() == ["okapi", "saola"]
    assert candle.class_count_[~candle.is_new_].tolist() == [4.0] * 6


def test_a_model_holds_nothing_of_the_machine(model, cache):
    assert str(cache).encode() not in model.read_bytes()
    pipe = load_model(model)
    for part in (pipe["clip"], pipe["candle"].text_encoder):
        assert part.cache is None and part.device == "auto" and part.verbose == 0


def test_a_model_of_fit_is_that_of_the_library(model, odd):
    assert type(load_model(model)) is type(skcandle.make_candle_pipeline())
    from skcandle.datasets import load_image_folder

    data = load_image_folder(odd)
    pipe = skcandle.make_candle_pipeline("emoji-clip", new_classes=["okapi", "saola"])
    pipe.fit(data.images, data.target)
    np.testing.assert_allclose(
        load_model(model).predict_proba(data.images), pipe.predict_proba(data.images), atol=1e-5
    )


def test_fit_stops_at_broken_files_and_names_all_of_them_at_once(run, broken, tmp_path):
    result = run("fit", broken, "-o", tmp_path / "model.skops", *MODEL, code=1)
    assert "3 of 27 images cannot be used" in result.stderr
    assert "empty.jpg' is empty (0 bytes)" in result.stderr
    assert "page.jpg' is not of a known image format" in result.stderr
    assert "truncated.png' is broken or truncated" in result.stderr  # its header is right
    assert "or use --on-error skip" in result.stderr and "on_error=" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_fit_leaves_broken_files_out(run, broken, tmp_path):
    output = tmp_path / "model.skops"
    result = run("fit", broken, "-o", output, "--on-error", "skip", *MODEL)
    assert "3 of 27 images cannot be used" in result.stderr
    assert "They are left out." in result.stderr
    assert "the folder 'okapi' is empty; --new 'okapi'" in result.stderr
    assert load_model(output)["candle"].class_count_.sum() == 24


def test_a_class_that_loses_all_its_images_is_named(run, odd, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a", "b", "c"):
        (photos / name).mkdir(parents=True)
        emoji_of("apple" if name == "a" else "cat", 0).save(photos / name / "1.png")
    path = photos / "c" / "1.png"
    path.write_bytes(path.read_bytes()[:300])
    output = tmp_path / "model.skops"
    result = run("fit", photos, "-o", output, "--on-error", "skip", *MODEL)
    assert "no image is left of 'c'" in result.stderr
    run("fit", photos, "-o", output, "--on-error", "skip", "--new", "c", "--force", *MODEL)
    assert load_model(output)["candle"].is_new_.tolist() == [False, False, True]


def test_names_are_what_prompts_say_and_may_add_classes(run, odd, tmp_path):
    names = tmp_path / "names.csv"
    rows = ["=cmd(),airplane", "okapi,forest giraffe", "okapi,zebra giraffe"]
    names.write_text("\n".join(["label,name", *rows]))
    output = tmp_path / "model.skops"
    run("fit", odd, "-o", output, "--names", names, *MODEL)
    candle = load_model(output)["candle"]
    assert candle.class_names["=cmd()"] == "airplane"
    assert candle.class_names["okapi"] == ["forest giraffe", "zebra giraffe"]
    assert candle.classes_[candle.is_new_].tolist() == ["okapi"]


def test_fit_takes_a_table(run, odd, tmp_path):
    table = tmp_path / "table.csv"
    paths = {kind: odd / kind / "IMG 1.PNG" for kind in ("red_apple", "100% lemon")}
    table.write_text("file,kind\n" + "".join(f"{path},{kind}\n" for kind, path in paths.items()))
    output = tmp_path / "model.skops"
    columns = ["--image-column", "file", "--label-column", "kind"]
    run("fit", table, "-o", output, *columns, *MODEL)
    assert load_model(output)["candle"].classes_.tolist() == ["100% lemon", "red_apple"]
    run("fit", table, "-o", output, "--force", *MODEL)  # columns are found by what they hold
    columns = ["--label-column", "species"]
    message = run("fit", table, "-o", output, "--force", *columns, *MODEL, code=1).stderr
    assert "has no column 'species'; its columns are 'file', 'kind'" in message
    table.write_text("image,label\nnone.png,a\n")
    message = run("fit", table, "-o", output, "--force", *MODEL, code=1).stderr
    assert "none.png' cannot be opened (No such file or directory)" in message


def test_a_single_class_is_an_error_before_images_are_encoded(run, tmp_path, encoded):
    (tmp_path / "cat").mkdir()
    emoji_of("cat", 0).save(tmp_path / "cat" / "1.png")
    output = tmp_path / "model.skops"
    message = run("fit", tmp_path, "-o", output, *MODEL, code=1).stderr
    assert "There is only one class, 'cat'." in message
    assert encoded == []
    run("fit", tmp_path, "-o", output, "--new", "dog", *MODEL)


def test_weights_that_cannot_be_had_name_the_command_that_downloads_them(run, odd, tmp_path):
    pretrained = ["--model", "ViT-B-32-quickgelu", "--offline"]
    message = run("fit", odd, "-o", tmp_path / "model.skops", *pretrained, code=1).stderr
    assert "cannot find its weights in the folder" in message
    assert "CLIPFeaturizer('ViT-B-32-quickgelu', 'openai').encode_text" in message
    assert "emoji-clip" not in message  # it knows no photographs


def test_the_command_that_installs_matplotlib_has_its_brackets(run):
    assert "pip install 'skcandle[plots]'" in run("demo", "--help").stdout


def test_a_model_is_not_written_under_the_suffix_of_another_format(run, odd, tmp_path):
    message = run("fit", odd, "-o", tmp_path / "model.pkl", *MODEL, code=1).stderr
    assert "model.pkl' must end in .skops" in message


def test_a_folder_without_class_folders_is_told_what_it_needs(run, model, tmp_path):
    emoji_of("cat", 0).save(tmp_path / "1.png")
    for args in (["fit", tmp_path, "-o", tmp_path / "m.skops"], ["evaluate", model, tmp_path]):
        message = run(*args, code=1).stderr
        assert "must have one folder per class, as in" in message and "Repair" not in message


def test_an_image_in_two_classes_is_named(run, odd, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emoji_of("cat", 0).save(tmp_path / name / "same.png")
    emoji_of("apple", 0).save(tmp_path / "b" / "other.png")
    result = run("fit", tmp_path, "-o", tmp_path / "model.skops", *MODEL)
    assert "1 image is a copy of one in another class" in result.stderr
    assert "b/same.png' of " in result.stderr
    result = run("fit", odd, "-o", tmp_path / "model.skops", "--force", *MODEL)
    assert "copies" not in result.stderr


def test_info_names_no_weights_for_a_model_in_a_folder(run, odd, tiny_clip, tmp_path):
    path = tmp_path / "model.skops"
    run("fit", odd, "-o", path, "--model", tiny_clip)
    [line] = [line for line in run("info", path).stdout.splitlines() if line.startswith("CLIP")]
    assert line.split(maxsplit=1)[1] == f"{tiny_clip}, 64 features"


@pytest.mark.parametrize("photos, message", [("none", "does not exist"), ("", "contains no image")])
def test_missing_and_empty_folders(run, tmp_path, photos, message):
    result = run("fit", tmp_path / photos, "-o", tmp_path / "model.skops", *MODEL, code=1)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


# --- predict ---------------------------------------------------------------------------------


def test_predict_writes_csv_to_a_pipe(run, model, odd):
    rows = list(csv.DictReader(run("predict", model, odd).stdout.splitlines()))
    assert len(rows) == 24 and list(rows[0]) == ["file", "label", "probability", "error"]
    right = [
        row["label"].lstrip("'") == Path(row["file"]).relative_to(odd).parts[0] for row in rows
    ]
    assert np.mean(right) > 0.5


def test_predict_gives_reasons_for_images_without_an_answer(run, model, broken, tmp_path):
    output = tmp_path / "answers.csv"
    result = run("predict", model, broken, tmp_path / "none.jpg", "-o", output, "--top", 2)
    assert result.stdout == "" and "4 of 28 images cannot be read" in result.stderr
    failed = [row for row in table_of(output) if row["error"]]
    assert {(Path(row["file"]).name, row["error"].split(" (")[0]) for row in failed} == {
        ("empty.jpg", "is empty"),
        ("page.jpg", "is not of a known image format"),
        ("truncated.png", "is broken or truncated"),
        ("none.jpg", "cannot be opened"),
    }
    assert all(row["label"] == row["label_2"] == row["probability"] == "" for row in failed)


def test_predict_can_stop_at_broken_images(run, model, broken, tmp_path):
    output = tmp_path / "answers.csv"
    run("predict", model, broken, "-o", output, "--on-error", "raise", code=1)
    assert not output.exists()


def test_predict_without_any_readable_image_fails(run, model, broken):
    result = run("predict", model, broken / "red_apple" / "empty.jpg", code=1)
    assert "None of the images can be read" in result.stderr


def test_formats_agree(run, model, odd, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    files = {suffix: tmp_path / f"answers.{suffix}" for suffix in ("csv", "jsonl", "parquet")}
    for path in files.values():
        run("predict", model, odd, "-o", path, "--top", 3)
    lines = files["jsonl"].read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert pq.read_table(files["parquet"]).to_pylist() == rows
    shown = table_of(files["csv"])
    assert [row["label_3"].lstrip("'") for row in shown] == [row["label_3"] for row in rows]
    assert any(row["label"] == "=cmd()" for row in rows)
    assert all(row["probability"] >= row["probability_2"] >= row["probability_3"] for row in rows)


def test_more_classes_than_there_are_means_all(run, model, odd):
    [header, *_] = run("predict", model, odd, "--top", 100).stdout.splitlines()
    assert header.count("label") == 8


def test_names_that_are_not_unicode_can_be_written(run, model, tmp_path):
    name = os.fsdecode(b"\xff.png")
    try:
        emoji_of("cat", 0).save(tmp_path / name)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    for suffix in ("csv", "jsonl", "parquet"):
        run("predict", model, tmp_path, "-o", tmp_path / f"answers.{suffix}")
    assert table_of(tmp_path / "answers.csv")[0]["file"].endswith("\\udcff.png")


def test_zero_shot_needs_no_model_file(run, odd):
    from skcandle import CLIPFeaturizer

    photo = odd / "red_apple" / "IMG 1.PNG"
    out = run("predict", photo, "--classes", "apple, lemon", "--top", 2, *MODEL).stdout
    [row] = csv.DictReader(out.splitlines())
    clip = CLIPFeaturizer("emoji-clip")
    text = clip.encode_text(["a photo of a apple.", "a photo of a lemon."])
    logits = 100 * clip.transform([str(photo)]) @ text.T
    expected = np.exp(logits)[0] / np.exp(logits).sum()
    assert row["label"] == "apple"
    assert float(row["probability"]) == pytest.approx(expected[0], abs=1e-3)


def test_predict_takes_tables(run, model, odd, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(f"image\n{odd / 'red_apple' / 'IMG 1.PNG'}\n")
    assert len(run("predict", model, table).stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "args, message",
    [
        (["predict", "{model}"], "Give a model and photos, or photos and --classes"),
        (["predict", "{model}", "{odd}", "--classes", "a, b"], "a model or --classes, not both"),
        (["predict", "{odd}", "--classes", " , "], "Give at least one name"),
        (["predict", "{model}", "{odd}", "--link"], "--link needs --sort-into"),
        (["predict", "{model}", "{odd}", "--top", "0"], "--top"),
        (["evaluate", "{model}", "{odd}", "--report", "a.pdf"], "must end in .html"),
        (["fit", "{odd}"], "--output"),
        (["predikt"], "predikt"),
    ],
)
def test_wrong_usage_has_the_code_2(run, model, odd, args, message):
    result = run(*(arg.format(model=model, odd=odd) for arg in args), code=2)
    assert message in result.stderr


def test_predict_gives_a_table_one_row_for_each_of_its_rows_in_order(run, model, odd, tmp_path):
    good = odd / "red_apple" / "IMG 1.PNG"
    (tmp_path / "empty.jpg").write_bytes(b"")
    half = tmp_path / "half.png"
    half.write_bytes(good.read_bytes()[:200])
    paths = ["none.png", good, good, "empty.jpg", "", half, good]
    table, output = tmp_path / "table.csv", tmp_path / "answers.csv"
    table.write_text("image\n" + "".join(f'"{path}"\n' for path in paths))
    run("predict", model, table, "-o", output, "--sort-into", tmp_path / "sorted")
    rows = table_of(output)
    assert [Path(row["file"]).name for row in rows] == [Path(path).name for path in paths]
    assert [bool(row["label"]) for row in rows] == [i in (1, 2, 6) for i in range(7)]
    reasons = ["cannot be opened", "", "", "is empty", "has no path", "is broken or truncated", ""]
    for row, reason in zip(rows, reasons, strict=True):
        assert row["error"].startswith(reason) and bool(row["error"]) == bool(reason)
    assert len([path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]) == 1


def test_images_below_a_probability_get_no_label_and_a_folder_of_their_own(
    run, model, odd, tmp_path
):
    plain, output = tmp_path / "plain.csv", tmp_path / "answers.csv"
    run("predict", model, odd, "-o", plain)
    probability = sorted(float(row["probability"]) for row in table_of(plain))
    limit = (probability[4] + probability[5]) / 2
    options = ["--min-probability", limit, "--sort-into", tmp_path / "sorted", "--top", 2]
    run("predict", model, odd, "-o", output, *options)
    for before, row in zip(table_of(plain), table_of(output), strict=True):
        is_sure = float(before["probability"]) >= limit
        assert row["label"] == (before["label"] if is_sure else "")
        assert bool(row["probability"]) == bool(row["label_2"]) == is_sure
        assert row["error"] == ""
    assert len(list((tmp_path / "sorted" / "unknown").iterdir())) == 5
    run(
        "predict",
        odd,
        "--classes",
        "cat, dog",
        "--min-probability",
        1,
        "-o",
        output,
        "--force",
        *MODEL,
    )
    assert {row["label"] for row in table_of(output)} == {""}


def test_a_folder_for_images_without_a_label_is_never_that_of_a_class():
    assert folder_names(["unknown", None, "a"]) == {
        "a": "a",
        "unknown": "unknown",
        None: "unknown-2",
    }


@pytest.fixture(scope="module")
def rejecting(odd, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("rejecting") / "model.skops"
    command = ["fit", str(odd), "-o", str(path), "--new", "okapi", "--reject", "0.2", *MODEL]
    result = CliRunner().invoke(app, command, env={"SKCANDLE_CACHE": str(cache)})
    assert result.exit_code == 0, result.stderr
    return path


def test_a_model_fitted_with_reject_gives_no_label_to_other_images(run, rejecting, odd, tmp_path):
    for name in ("guitar", "clock", "pizza", "deer"):
        (tmp_path / "others").mkdir(exist_ok=True)
        emoji_of(name, 0).save(tmp_path / "others" / f"{name}.png")
    output = tmp_path / "answers.csv"
    run("predict", rejecting, odd, tmp_path / "others", "-o", output)
    rows = table_of(output)
    labels = [row["label"] for row in rows]
    expected = load_model(rejecting).predict([row["file"] for row in rows])
    assert [label.lstrip("'") for label in labels] == [
        "" if label == "unknown" else label for label in expected
    ]
    assert (
        sum(not label for label in labels[24:]) >= 2 > sum(not label for label in labels[:24]) / 4
    )
    assert "no label    for about 20 % of the images" in run("info", rejecting).stdout


def test_a_model_that_rejects_keeps_rejecting_when_its_classes_change(
    run, rejecting, odd, tmp_path
):
    paths = [tmp_path / f"{i}.skops" for i in range(4)]
    run("add", rejecting, "quagga", "-o", paths[0])
    run("add-images", paths[0], odd, "-o", paths[1])
    run("remove", paths[1], "okapi", "-o", paths[2])
    run("restrict", paths[2], "quagga, red_apple", "-o", paths[3])
    for path, n_classes in zip(paths, (8, 8, 7, 2), strict=True):
        pipe = load_model(path)
        assert len(pipe.classes_) == n_classes and pipe["candle"].reject_label_ == "unknown"
        assert "no label" in run("info", path).stdout
    assert load_model(paths[1])["candle"].estimator_.class_count_.sum() == 48
    assert "images without a label" in run("evaluate", rejecting, odd).stdout


def test_a_class_with_the_label_of_rejected_images_is_an_error(run, odd, tmp_path):
    options = ["-o", tmp_path / "model.skops", "--new", "unknown", "--reject", "0.1", *MODEL]
    message = run("fit", odd, *options, code=1).stderr
    assert "A class cannot be called 'unknown' with --reject" in message


# --- sort ------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [[], ["--link"]])
def test_images_are_sorted_into_folders_and_stay_where_they_are(run, model, odd, tmp_path, link):
    before = sorted(odd.rglob("*"))
    folder = tmp_path / "sorted"
    run("predict", model, odd, "--sort-into", folder, *link)
    assert sorted(odd.rglob("*")) == before
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 24 and all(path.is_symlink() == bool(link) for path in files)
    assert {path.parent.parent for path in files} == {folder}
    run("predict", model, odd, "--sort-into", folder, code=1)
    run("predict", model, odd, "--sort-into", folder, "--force")
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 48


def test_folders_have_safe_names():
    labels = ["../../etc", "a/b", "a\\b", "CON", "..", "", "Cat", "cat", "100% <b>", "ü" * 200]
    names = folder_names(labels)
    assert names["../../etc"] == "_.._etc" and names["100% <b>"] == "100% _b_"
    assert names["a/b"] == "a_b" and names["a\\b"] == "a_b-2"
    assert names["CON"] == "_CON" and names["Cat"] == "Cat" and names["cat"] == "cat-2"
    assert len({name.lower() for name in names.values()}) == len(labels)
    assert all(name.strip(" .") and len(name.encode()) <= 255 for name in names.values())


def test_a_link_in_the_folder_leads_nowhere(run, model, odd, tmp_path):
    folder, outside = tmp_path / "sorted", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "red_apple").symlink_to(outside)
    result = run("predict", model, odd, "--sort-into", folder, "--force", code=1)
    assert "red_apple' is a symbolic link, which may lead out of the folder" in result.stderr
    assert list(outside.iterdir()) == []


# --- evaluate, add, info ---------------------------------------------------------------------


def number(output, name):
    """The number in a line of an evaluation."""
    [line] = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).strip()


def test_evaluate_compares_with_the_folders(run, model, odd):
    from skcandle.datasets import load_image_folder

    data = load_image_folder(odd)
    pipe = load_model(model)
    accuracy = np.mean(pipe.predict(data.images) == data.target)
    columns = [pipe.classes_.tolist().index(label) for label in data.target]
    loss = -np.log(pipe.predict_proba(data.images)[range(len(columns)), columns]).mean()
    result = run("evaluate", model, odd, "--test-images").stdout
    assert number(result, "images") == "24"
    assert number(result, "accuracy") == f"{accuracy:.3f}"
    assert number(result, "log-loss") == f"{loss:.3f}"
    assert "fitted on" not in result


def test_evaluate_without_a_wrong_answer_lists_no_confusions(run, model, odd, tmp_path):
    answers = tmp_path / "answers.csv"
    run("predict", model, odd, "-o", answers)
    right = [row for row in table_of(answers) if Path(row["file"]).parent.name == row["label"]]
    photo = Path(right[0]["file"])
    (tmp_path / "photos" / photo.parent.name).mkdir(parents=True)
    (tmp_path / "photos" / photo.parent.name / photo.name).write_bytes(photo.read_bytes())
    out = run("evaluate", model, tmp_path / "photos", "--test-images").stdout
    assert number(out, "accuracy") == "1.000"
    assert "confusions" not in out


def page_accuracy(report):
    page = report.read_text(encoding="utf-8")
    [percent] = re.findall(r"<strong>(\d+).%</strong> <span>mean per-class accuracy", page)
    return int(percent)


def test_training_images_have_one_honest_number_in_the_command_and_on_the_page(run, odd, tmp_path):
    output, report = tmp_path / "model.skops", tmp_path / "report.html"
    fitted = run("fit", odd, "-o", output, *MODEL).stdout
    result = run("evaluate", output, odd, "--report", report).stdout
    assert result.startswith(
        "The model was fitted on all 24 images. These are predicted with copies"
    )
    for name in ("accuracy", "mean per-class accuracy", "log-loss"):
        assert number(fitted, name) == number(result, name)
    assert float(number(result, "log-loss")) > float(
        number(run("evaluate", output, odd, "--test-images").stdout, "log-loss")
    )
    assert page_accuracy(report) == round(100 * float(number(result, "mean per-class accuracy")))
    assert "was fitted on these images" in report.read_text(encoding="utf-8")


def test_a_test_set_with_as_many_images_per_class_is_a_test_set(run, tmp_path):
    for part, first in (("train", 0), ("test", 2)):
        for name in ("apple", "lemon", "cat"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in (first, first + 1):
                emoji_of(name, i).save(tmp_path / part / name / f"{i}.png")
    output, report = tmp_path / "model.skops", tmp_path / "report.html"
    run("fit", tmp_path / "train", "-o", output, *MODEL)
    result = run("evaluate", output, tmp_path / "test", "--report", report).stdout
    assert "fitted on" not in result and "fitted on" not in report.read_text(encoding="utf-8")
    assert page_accuracy(report) == round(100 * float(number(result, "mean per-class accuracy")))
    # some are training images, also under another name and label
    (tmp_path / "train" / "cat" / "0.png").rename(tmp_path / "test" / "apple" / "copy.png")
    result = run("evaluate", output, tmp_path / "test").stdout
    assert result.startswith("The model was fitted on 1 of the 7 images. These are predicted")


def test_added_images_are_training_images_and_stay_so_in_views(run, model, tmp_path):
    for name in ("pizza", "red_apple"):
        (tmp_path / "more" / name).mkdir(parents=True)
    for i, name in enumerate(("pizza", "pizza", "apple")):
        place = tmp_path / "more" / ("red_apple" if name == "apple" else name)
        emoji_of(name, i + 1).resize((50, 50)).save(place / f"{i}.png")
    grown, smaller = tmp_path / "grown.skops", tmp_path / "smaller.skops"
    assert not run("add-images", model, tmp_path / "more", "-o", grown).stderr
    candle = load_model(grown)["candle"]
    counts = dict(zip(candle.classes_, candle.class_count_, strict=True))
    assert (counts["pizza"], counts["red_apple"], counts["okapi"]) == (2, 5, 0)
    again = run("add-images", grown, tmp_path / "more", "-o", tmp_path / "again.skops").stderr
    assert "already fitted on 3 of the 3 images, which now count once more" in again
    run("restrict", grown, "pizza, red_apple", "-o", smaller)
    for path in (grown, smaller):
        result = run("evaluate", path, tmp_path / "more").stdout
        assert result.startswith("The model was fitted on all 3 images.")


def test_remove_and_restrict_are_complements(run, model, tmp_path):
    removed, kept = tmp_path / "removed.skops", tmp_path / "kept.skops"
    run("remove", model, "okapi, saola", "100% lemon", "-o", removed)
    classes = load_model(removed)["candle"].classes_.tolist()
    assert sorted([*classes, "okapi", "saola", "100% lemon"]) == sorted(
        load_model(model)["candle"].classes_
    )
    run("restrict", removed, *classes[:2], "-o", kept)
    assert load_model(kept)["candle"].classes_.tolist() == classes[:2]
    run("add", kept, "okapi", "-o", tmp_path / "again.skops")
    message = run("remove", kept, "okapi", "-o", tmp_path / "x.skops", code=1).stderr
    assert "The model has no class 'okapi'; `skcandle info" in message
    message = run("remove", kept, *classes[:2], "-o", tmp_path / "x.skops", code=1).stderr
    assert "No class would be left." in message


def test_add_images_brings_back_a_removed_class_whose_label_is_a_number(run, tmp_path, monkeypatch):
    notes, names = [], ["apple", "lemon", "cat"]
    monkeypatch.setattr("skcandle.cli._work.note", notes.append)
    full, smaller, grown = (tmp_path / f"{i}.skops" for i in range(3))
    images = [emoji_of(name, i) for name in names for i in range(2)]
    pipe = skcandle.make_candle_pipeline("emoji-clip", class_names=names)
    full.write_bytes(to_bytes(pipe.fit(images, np.repeat(range(3), 2))))
    (tmp_path / "more" / "2").mkdir(parents=True)
    emoji_of("cat", 2).save(tmp_path / "more" / "2" / "1.png")
    run("remove", full, "2", "-o", smaller)
    run("add-images", smaller, tmp_path / "more", "-o", grown)
    candle = load_model(grown)["candle"]
    assert candle.classes_.tolist() == [0, 1, 2]
    assert candle.class_count_.tolist() == [2, 2, 3]
    assert notes == [f"{smaller}: 2 classes.", f"{grown}: 3 classes."]  # the class is not new


def test_evaluate_reports_base_and_new_classes(run, model, odd, tmp_path):
    for label, name in (("red_apple", "apple"), ("okapi", "deer")):
        (tmp_path / label).mkdir()
        emoji_of(name, 0).save(tmp_path / label / "1.png")
    assert "joint space" in run("evaluate", model, tmp_path).stdout


def test_evaluate_leaves_broken_files_out(run, model, broken):
    result = run("evaluate", model, broken, "--on-error", "skip")
    assert number(result.stdout, "images") == "24"


def test_classes_that_a_model_does_not_know_are_named(run, model, tmp_path):
    (tmp_path / "zebra").mkdir()
    emoji_of("cat", 0).save(tmp_path / "zebra" / "1.png")
    message = run("evaluate", model, tmp_path, code=1).stderr
    assert "does not know 1 of the classes in" in message and "'zebra'. `skcandle add`" in message


def test_evaluate_writes_a_report(run, model, odd, tmp_path):
    pytest.importorskip("skcandle.inspection")
    report = tmp_path / "report.html"
    run("evaluate", model, odd, "--report", report)
    page = report.read_text(encoding="utf-8")
    assert "100% lemon" in page and "<b>cat" not in page


def test_add_gives_a_model_more_classes(run, model, tmp_path):
    output = tmp_path / "more.skops"
    run("add", model, "quagga, tarpan", "dodo", "-o", output)
    assert {"quagga", "tarpan", "dodo"} < set(load_model(output)["candle"].classes_)
    assert "quagga" not in load_model(model)["candle"].classes_
    message = run("add", model, "okapi", "-o", tmp_path / "other.skops", code=1).stderr
    assert message == "Error: The model already has the class 'okapi'.\n"


def test_info_lists_the_classes(run, model):
    out = run("info", model).stdout
    assert "emoji-clip" in out and "8, 2 of them by name only" in out
    assert any(line.split() == ["okapi", "by", "name", "only"] for line in out.splitlines())
    assert any(line.split() == ["red_apple", "4", "images"] for line in out.splitlines())


def test_info_names_the_model_that_embeds_class_names(run, model, tmp_path):
    def line():
        return next(line for line in run("info", path).stdout.splitlines() if "class names" in line)

    path = tmp_path / "other.skops"
    for encoder, said in [
        (skcandle.CLIPFeaturizer("emoji-clip"), "the same CLIP"),
        (skcandle.CLIPFeaturizer("hf-hub:owner/name"), "hf-hub:owner/name"),
        (None, "not used"),
    ]:
        pipe = load_model(model)
        pipe["candle"].text_encoder = encoder
        path.write_bytes(to_bytes(pipe))
        assert line().split("class names ")[1].strip() == said


def test_a_model_whose_weights_have_changed_is_refused(run, odd, tmp_path):
    """The commands name both models, and write nothing."""
    (tmp_path / "clip").mkdir()
    save_tiny_clip(tmp_path / "clip", seed=0)
    path, answers = tmp_path / "model.skops", tmp_path / "answers.csv"
    run("fit", odd, "-o", path, "--model", f"local-dir:{tmp_path / 'clip'}")
    run("predict", path, odd)
    save_tiny_clip(tmp_path / "clip", seed=1)
    run("info", path)
    for command in (
        ["predict", path, odd, "-o", answers],
        ["evaluate", path, odd],
        ["add", path, "fox", "-o", tmp_path / "grown.skops"],
    ):
        message = run(*command, code=1).stderr
        assert re.search(r"fitted with the CLIP 'local-dir:.* the CLIP in use is 'local-", message)
    assert not answers.exists() and not (tmp_path / "grown.skops").exists()


# --- model files -----------------------------------------------------------------------------


def test_a_file_that_is_not_a_model(run, tmp_path, odd):
    path = tmp_path / "model.skops"
    assert "There is no model file" in run("info", path, code=1).stderr
    path.write_text("no model")
    assert (
        "is not a model file; `skcandle fit PHOTOS -o FILE` writes one."
        in run("info", path, code=1).stderr
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "not a model that this version of skcandle can read" in run("info", path, code=1).stderr
    assert "is a folder; give a model file first" in run("predict", odd, odd, code=1).stderr


def test_a_model_of_something_else(run, tmp_path):
    import skops.io
    from sklearn.linear_model import LogisticRegression

    path = tmp_path / "model.skops"
    skops.io.dump(LogisticRegression(), path)
    message = run("info", path, code=1).stderr
    assert "a fitted pipeline from make_candle_pipeline, but a LogisticRegression" in message
    skops.io.dump(skcandle.make_candle_pipeline("emoji-clip"), path)
    assert "not contain a fitted pipeline" in run("info", path, code=1).stderr


def test_parts_of_other_libraries_have_to_be_trusted(run, model, tmp_path):
    import skops.io

    pipe = load_model(model)
    pipe["clip"].cache = Path("cache")
    path = tmp_path / "model.skops"
    skops.io.dump(pipe, path)
    message = run("info", path, code=1).stderr
    assert (
        "has parts that do not belong to a model of skcandle: " in message
        and "load it with --trust" in message
    )
    run("info", path, "--trust")


def test_a_model_without_a_parameter_of_this_version_is_an_error(run, model, tmp_path):
    import skops.io

    pipe = load_model(model)
    del pipe["candle"].margin
    skops.io.dump(pipe, tmp_path / "model.skops")
    command = ["add", tmp_path / "model.skops", "fox", "-o", tmp_path / "grown.skops"]
    message = run(*command, code=1).stderr
    assert "not a model that this version of skcandle can read" in message
    assert message.endswith("'margin'); fit it again.\n")


def test_a_model_of_another_version_is_read_with_one_warning(run, model, monkeypatch):
    monkeypatch.setattr(_version, "__version__", "3.1.4")
    result = run("info", model)
    assert result.stderr.count("Warning: This estimator was saved by skcandle") == 1
    assert "red_apple" in result.stdout


# --- files that are written ------------------------------------------------------------------


def test_nothing_is_overwritten_without_force(run, model, odd, tmp_path, encoded):
    table, other = tmp_path / "x.csv", tmp_path / "x.skops"
    for path, args in (
        (other, ["fit", odd, "-o", other, *MODEL]),
        (table, ["predict", model, odd, "-o", table]),
        (other, ["add", model, "quagga", "-o", other]),
        (other, ["add-images", model, odd, "-o", other]),
        (other, ["remove", model, "okapi", "-o", other]),
        (other, ["restrict", model, "okapi", "-o", other]),
    ):
        path.write_text("precious")
        assert "already exists; --force replaces it" in run(*args, code=1).stderr
        assert path.read_text() == "precious"
        run(*args, "--force")
        assert path.read_bytes() != b"precious"


@pytest.mark.parametrize(
    "name, message",
    [
        ("none/a.csv", "a.csv' cannot be written, because there is no folder '.*none'"),
        ("", "is a folder; give the name of a file in it"),
        ("a.xlsx", "must end in .csv, .parquet or .jsonl"),
    ],
)
def test_outputs_that_cannot_be_written(run, model, odd, tmp_path, name, message):
    if not name:
        (tmp_path / "a.csv").mkdir()
        name = "a.csv"
    assert re.search(message, run("predict", model, odd, "-o", tmp_path / name, code=1).stderr)


def test_a_folder_without_permission_is_an_error_before_the_work(run, odd, tmp_path, monkeypatch):
    def denied(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files.tempfile, "mkstemp", denied)
    result = run("fit", odd, "-o", tmp_path / "model.skops", *MODEL, code=1)
    assert "model.skops' cannot be written: Permission denied." in result.stderr


# --- demo ------------------------------------------------------------------------------------


def test_demo_without_matplotlib_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = run("demo", tmp_path / "demo", code=1).stderr
    assert "pip install 'skcandle[plots]'" in message
    assert not (tmp_path / "demo").exists()


def test_demo_says_before_the_work_what_cannot_be_written(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.delattr("skcandle.cli._demo._evaluation.evaluate")  # is not reached

    def message(folder):
        return run("demo", folder, code=1).stderr

    (tmp_path / "file").write_text("")
    assert "file' is a file, not a folder." in message(tmp_path / "file")
    assert "cannot be created: No such file or directory." in message(tmp_path / "not" / "there")
    for name in ("skcandle_demo.png", "index.html"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("of an earlier call")
        assert f"{name}' already exists; --force replaces it." in message(folder)


@pytest.mark.slow
def test_demo_prints_a_table_and_where_its_files_are(run, tmp_path):
    pytest.importorskip("matplotlib")
    *table, picture, page = run("demo", tmp_path / "demo").stdout.splitlines()
    assert "Candle" in table[0]
    assert Path(picture).stat().st_size and Path(page).stat().st_size


# --- in a process of its own -----------------------------------------------------------------


def in_process(*args, **options):
    command = [sys.executable, "-m", "skcandle", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "unneeded"),
    [
        (["info", "{model}"], {"torch", "sklearn", "skops", "open_clip"}),
        (["predict", "{model}", "{folder}"], {"open_clip", "torchvision", "timm"}),
    ],
)
def test_a_command_imports_only_what_it_needs(run, model, odd, cache, args, unneeded):
    run("predict", model, odd)  # the embeddings are in the cache
    code = (
        "import os, sys, skcandle.cli\nsys.argv = ['skcandle', *sys.argv[1:]]\n"
        "try: skcandle.cli.main()\n"
        "except SystemExit as end: assert end.code == 0, end\n"
        f"heavy = {unneeded} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    args = [arg.format(model=model, folder=odd) for arg in args]
    environment = os.environ | {"SKCANDLE_CACHE": str(cache)}
    command = [sys.executable, "-c", code, *args]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "red_apple" in result.stdout


@pytest.mark.slow
def test_a_terminal_shows_something_before_anything_heavy_is_imported(tmp_path):
    """The file has the first bytes of a model only, so loading it fails."""
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("a.txt", "a")
    code = (
        "import sys, skcandle.cli\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'skops'}\n"
        "class Terminal:\n"
        "    isatty = lambda self: True\n"
        "    flush = lambda self: None\n"
        "    def write(self, text):\n"
        "        print(sorted(heavy & set(sys.modules)), text.strip())\n"
        "sys.stderr = Terminal()\n"
        "sys.argv = ['skcandle', *sys.argv[1:]]\n"
        "skcandle.cli.main()"
    )
    command = ["predict", str(tmp_path / "model.skops"), str(tmp_path)]
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert result.stdout.splitlines()[0] == "[] Loading the libraries ..."


@pytest.mark.slow
def test_version_and_help():
    assert in_process("--version").stdout == f"skcandle {skcandle.__version__}\n"
    for args in (["--help"], ["fit", "--help"], ["predict", "-h"]):
        result = in_process(*args)
        assert result.returncode == 0 and "Examples" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["info", "--help"],
        ["fit"],
        ["fit", "none", "-o", "model.skops"],
        ["fit", "none.csv", "-o", "model.skops"],
        ["fit", ".", "-o", "model.pkl"],
        ["predict", "none.skops", "."],
        ["predict", "none", "--classes", "a, b"],
        ["evaluate", "none.skops", "."],
        ["add", "none.skops", "a", "-o", "model.skops"],
        ["add-images", "none.skops", ".", "-o", "model.skops"],
        ["remove", "none.skops", "a", "-o", "model.skops"],
    ],
)
def test_start_up_without_work_imports_nothing_heavy(args):
    code = (
        "import sys, skcandle.cli\nsys.argv = ['skcandle', *sys.argv[1:]]\n"
        "try: skcandle.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'open_clip', 'skops', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_traceback(model, odd, cache):
    code = f"{sys.executable} -m skcandle predict '{model}' '{odd}' | true"
    env = os.environ | {"SKCANDLE_CACHE": str(cache)}
    result = subprocess.run(
        code, shell=True, capture_output=True, text=True, timeout=SECONDS, env=env
    )
    assert result.stderr == ""


# --- folders, and what is not there ----------------------------------------------------------


@pytest.mark.parametrize(
    "system, environment, expected",
    [
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
        ("win32", {}, "/home/ann/AppData/Local"),
        ("darwin", {}, "/home/ann/Library/Caches"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache"),
        ("linux", {}, "/home/ann/.cache"),
    ],
)
def test_the_cache_is_in_the_folder_of_the_system(system, environment, expected, monkeypatch):
    for name in ("LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    assert default_cache() == str(Path(expected, "skcandle", "embeddings"))


def test_without_a_cache_nothing_is_written(run, odd, tmp_path):
    folder = tmp_path / "cache"
    places = [odd, "--classes", "cat, dog", *MODEL]
    run("predict", *places, "--no-cache", "--cache", folder)
    assert not folder.exists()
    run("predict", *places, "--cache", folder)
    assert folder.exists()


def test_parquet_without_pyarrow_says_what_to_install(run, odd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answers, table = tmp_path / "answers.parquet", tmp_path / "table.parquet"
    table.write_bytes(b"PAR1")
    message = run("predict", odd, "--classes", "cat, dog", "-o", answers, *MODEL, code=1).stderr
    assert "Writing Parquet files needs PyArrow: pip install pyarrow. Or write" in message
    message = run("predict", table, "--classes", "cat, dog", *MODEL, code=1).stderr
    assert "Parquet files need PyArrow: pip install pyarrow, or use a .csv file." in message


def test_images_behind_urls_are_answered_but_not_sorted(run, model, odd, tmp_path):
    image = next(odd.rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_text(f"image\nfile://{image}\n")
    answers = tmp_path / "answers.csv"
    run("predict", model, table, "-o", answers)
    expected = tmp_path / "expected.csv"
    run("predict", model, image, "-o", expected)
    assert answers.read_text() == expected.read_text().replace(str(image), f"file://{image}")
    result = run("predict", model, table, "--sort-into", tmp_path / "sorted", code=1)
    assert "--sort-into needs files on this machine, but 'file://" in result.stderr


def test_folders_for_sorted_images_that_cannot_be_made(run, odd, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder, message in [
        ("file", "file' is a file, not a folder."),
        ("none/sorted", "sorted' cannot be created, because there is no folder"),
    ]:
        options = ["--classes", "cat, dog", "--sort-into", tmp_path / folder, *MODEL]
        assert message in run("predict", odd, *options, code=1).stderr


def test_no_readable_image_is_an_error(run, tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        data = io.BytesIO()
        emoji_of("cat", 0).save(data, "PNG")
        (tmp_path / label / "1.png").write_bytes(data.getvalue()[:300])
    options = ["-o", tmp_path / "model.skops", "--on-error", "skip", *MODEL]
    assert "None of the images can be read." in run("fit", tmp_path, *options, code=1).stderr


def test_a_lack_of_memory_is_not_reported_as_a_damaged_model(model, monkeypatch):
    def run_out_of_memory(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("skops.io.get_untrusted_types", run_out_of_memory)
    with pytest.raises(MemoryError):
        load_model(model)
