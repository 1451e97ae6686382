"""``skcandle label``, with a page that labels by itself."""

import builtins

import numpy as np
import pytest
from typer.testing import CliRunner

from skcandle.__main__ import app
from skcandle.datasets import load_emoji, load_image_table
from skcandle.labelling import _command

KINDS = ["bird", "clock", "house"]


@pytest.fixture
def photos(tmp_path):
    emoji, folder = load_emoji(), tmp_path / "photos"
    folder.mkdir()
    for name in KINDS:
        for i, row in enumerate(np.flatnonzero(emoji.target == name)[:4]):
            emoji.images[row].save(folder / f"{name} {i}.png")
    return folder


@pytest.fixture
def run(tmp_path, photos, monkeypatch):
    """Run the command; the page calls a function with the session, until Ctrl-C."""

    def run(*args, page=lambda session: None, code=0, command="label"):
        served = []

        def serve(session, **options):
            served.append(options)
            page(session)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_command, "_server", lambda: serve)
            place = [str(photos)] if command == "label" else []
            result = CliRunner().invoke(
                app,
                [command, *place, *map(str, args), "--model", "emoji-clip"],
                env={"SKCANDLE_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"},
            )
        assert result.exit_code == code, result.stderr
        result.served = served[0] if served else None
        return result

    return run


def label_birds_and_clocks(session):
    for i, name in enumerate(session.names):
        if not name.startswith("house"):
            session.label([i], name.split()[0])


@pytest.mark.slow
def test_the_table_has_the_labels_and_fit_learns_those_of_the_person(run, tmp_path):
    output, model = tmp_path / "labels.csv", tmp_path / "model.skops"
    run("-o", output, page=label_birds_and_clocks)
    data = load_image_table(output)
    assert data.target[:8].tolist() == ["bird"] * 4 + ["clock"] * 4 and len(data.images) == 12
    result = run(output, "-o", model, command="fit")
    assert "images                     8" in result.stdout
    info = CliRunner().invoke(app, ["info", str(model)])
    assert "bird   4 images" in info.stdout and "clock  4 images" in info.stdout


def test_the_same_command_goes_on(run, tmp_path):
    output, found = tmp_path / "labels.csv", []
    command = ["-o", output, "--classes", "house, bird"]
    run(*command, page=label_birds_and_clocks)
    run(*command, page=lambda session: found.append((session.class_names, session.labels)))
    names, labels = found[0]
    assert names == ["house", "bird", "clock"]
    assert labels.tolist() == [1] * 4 + [2] * 4 + [-1] * 4


@pytest.mark.slow
def test_labelling_may_start_from_a_model(run, tmp_path):
    output, found = tmp_path / "labels.csv", []
    run("-o", output, page=label_birds_and_clocks)
    run(output, "-o", tmp_path / "model.skops", command="fit")
    run(
        tmp_path / "model.skops",
        "-o",
        tmp_path / "more.csv",
        page=lambda session: found.append((session.class_names, session.classifier.class_count_)),
    )
    assert found[0][0] == ["bird", "clock"] and found[0][1].tolist() == [4, 4]


def test_names_come_from_a_file_and_copies_are_sorted_at_the_end(run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\ufeffbird\n\n clock \n", encoding="utf-8")
    folder = tmp_path / "sorted"
    run("-o", tmp_path / "labels.csv", "--classes-file", names, "--sort-into", folder)
    copies = list(folder.rglob("*.png"))
    assert len(copies) == 12 and {copy.parent.name for copy in copies} <= {"bird", "clock"}


def test_what_the_page_is_told(run, tmp_path):
    output = tmp_path / "labels.csv"
    options = run("-o", output, "--port", "8123", "--no-browser").served
    assert options["model_path"] == tmp_path / "labels.skops" and options["title"] == "photos"
    assert (options["port"], options["open_browser"]) == (8123, False)


def test_unreadable_photos_are_listed_and_left_out(run, tmp_path, photos):
    (photos / "broken.png").write_bytes(b"no image")
    result = run("-o", tmp_path / "labels.csv")
    assert "1 of 13 images cannot be used" in result.stderr and "broken.png" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--classes", "bird, Bird"], "The class 'bird' exists already; 'Bird' reads the same."),
        (["-o", "labels.txt"], "must be a .csv file"),
        (["nothing.skops"], "There is no model file 'nothing.skops'"),
    ],
)
def test_what_cannot_work_is_one_sentence(run, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    result = run(*args, code=1)
    assert message in result.stderr and result.served is None


def test_a_missing_server_is_named_with_the_command_that_installs_it(tmp_path, photos, monkeypatch):
    import_module = builtins.__import__

    def without_server(name, *args, **kwargs):
        if name == "_server":
            raise ImportError("No module named 'starlette'")
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_server)
    result = CliRunner().invoke(app, ["label", str(photos), "-o", str(tmp_path / "labels.csv")])
    assert result.exit_code == 1
    assert "pip install 'skcandle[label]'" in result.stderr
    assert not (tmp_path / "labels.journal.jsonl").exists()
