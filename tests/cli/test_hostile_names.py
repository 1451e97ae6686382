"""Names with special characters, from folders and tables to every output."""

import csv
import html
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import run_command
from odd_folder import emoji_of

from skcandle import CandleClassifier, CLIPFeaturizer, EmbeddingCache, make_candle_pipeline
from skcandle.cli._models import load_model
from skcandle.clip._cache.sqlite import DATABASE_NAME
from skcandle.inspection._csv import FORMULA

NAMES = {
    "apple": "{0.__class__} {} {{x}}",
    "lemon": "100%s %(x)d %n",
    "banana": "two\nlines\r\n",
    "cat": "'; DROP TABLE embeddings; --",
    "strawberry": "<script>alert(1)</script>&amp;",
    "airplane": '=HYPERLINK("http://a.org","x")',
    "dog": "@SUM(1+1)*cmd|' /C calc'!A0",
    "pizza": "\x1b[2J\x1b]0;title\x07",
}
TEMPLATE = "a {0} %s }}{{ <b>{}'; --\n"
MODEL = ["--model", "emoji-clip"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of images whose labels and files have such names, as a spreadsheet writes it."""
    folder = tmp_path_factory.mktemp("photos")
    path = folder / "table.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for i, (word, name) in enumerate(NAMES.items()):
            for number in range(3):
                image = folder / f"=1+{i} {{}} %s ';--\n<b>{number}.png"
                emoji_of(word, number % 2).rotate(5 * number).save(image)
                writer.writerow([image.name, name])
    return path


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A table with the meaning of each label."""
    path = tmp_path_factory.mktemp("names") / "names.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["label", "name"], *((v, k) for k, v in NAMES.items())])
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache ?mode=memory#%s '{}") / "it's; --"


@pytest.fixture(scope="module")
def run(cache):
    return partial(run_command, cache)


@pytest.fixture(scope="module")
def model(run, table, names, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model {} %s.skops"
    run("fit", table, "-o", path, "--names", names, "--template", TEMPLATE, *MODEL)
    return path


def expected_pipeline(table):
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = [str(table.parent / row["image"]) for row in rows]
    pipe = make_candle_pipeline(
        "emoji-clip", class_names={v: k for k, v in NAMES.items()}, templates=TEMPLATE
    )
    return pipe.fit(paths, [row["label"] for row in rows]), paths


def test_labels_are_what_the_table_says(model, table):
    pipe, paths = expected_pipeline(table)
    found = load_model(model)
    assert set(found["candle"].classes_) == set(NAMES.values())
    np.testing.assert_allclose(found.predict_proba(paths), pipe.predict_proba(paths), atol=1e-5)


def test_csv_has_every_name_and_no_formula(run, model, table, tmp_path):
    pipe, paths = expected_pipeline(table)
    run("predict", model, table, "-o", tmp_path / "answers.csv", "--top", "2")
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [cell for row in rows for cell in row.values()]
    assert not any(cell.startswith(FORMULA) for cell in cells)
    assert [row["label"].removeprefix("'") for row in rows] == [
        label.removeprefix("'") for label in pipe.predict(paths)
    ]
    assert [row["file"] for row in rows] == paths
    piped = list(csv.DictReader(run("predict", model, table, "--top", "2").stdout.splitlines(True)))
    assert [list(row) for row in piped] == [list(row) for row in rows]


def test_other_formats_have_names_as_they_are(run, model, table, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pipe, paths = expected_pipeline(table)
    for suffix in ("jsonl", "parquet"):
        run("predict", model, table, "-o", tmp_path / f"answers.{suffix}")
    lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert [row["label"] for row in rows] == pipe.predict(paths).tolist()
    assert pq.read_table(tmp_path / "answers.parquet").to_pylist() == rows


def test_folders_of_sorted_images_stay_in_their_folder(run, model, table, tmp_path):
    run("predict", model, table, "--sort-into", tmp_path / "sorted")
    places = {path.parent.parent for path in (tmp_path / "sorted").rglob("*.png")}
    assert places == {tmp_path / "sorted"}
    assert all(path.name.isprintable() for path in (tmp_path / "sorted").iterdir())


def test_what_is_shown_on_a_terminal_has_no_control_characters(run, model, table, tmp_path):
    shown = [run("info", model).stdout, run("evaluate", model, table).stdout]
    (table.parent / "=broken\x1b[2J.png").write_bytes(b"")
    try:
        result = run("predict", model, table.parent, "-o", tmp_path / "answers.csv")
    finally:
        (table.parent / "=broken\x1b[2J.png").unlink()
    shown.append(result.stderr)
    for text in shown:
        assert all(line.isprintable() for line in text.splitlines())
    assert len(shown[0].splitlines()) == 6 + len(NAMES)
    assert "two\\nlines" in shown[0] and "\\x1b[2J" in shown[0]


def test_the_report_of_an_evaluation_is_escaped(run, model, table, tmp_path):
    run("evaluate", model, table, "--report", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page and "<b>" not in page
    assert html.escape("<script>alert(1)</script>&amp;") in page


def test_representations_of_estimators_are_escaped():
    candle = CandleClassifier(new_classes=[NAMES["strawberry"]], templates="<script>{}")
    assert eval(repr(candle)).get_params() == candle.get_params()
    page = candle._repr_html_()
    assert "<script>alert(1)" not in page and "<script>{}" not in page
    assert "&lt;script&gt;{}" in page


def test_names_are_not_run_as_statements_of_the_cache_database(run, cache, table, names, tmp_path):
    run("fit", table, "-o", tmp_path / "model.skops", "--names", names, *MODEL)
    assert [path.name for path in cache.iterdir()][0].startswith(DATABASE_NAME)
    before = EmbeddingCache(cache).info().n_embeddings
    assert before >= 24
    prompts = list(NAMES.values())
    rows = CLIPFeaturizer("emoji-clip", cache=cache).encode_text(prompts)
    np.testing.assert_allclose(rows, CLIPFeaturizer("emoji-clip").encode_text(prompts), atol=1e-6)
    assert EmbeddingCache(cache).info().n_embeddings == before + len(prompts)
    with closing(sqlite3.connect(Path(cache) / DATABASE_NAME)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
