"""Pages of doc/ whose examples are run in a folder as they describe it."""

import doctest
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
from odd_folder import emoji_of
from typer.testing import CliRunner

from skcandle.cli._app import app

DOC = Path(__file__).parents[1] / "doc"
INDENT = 4 * " "
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKCANDLE_CACHE", str(tmp_path / "cache"))
    for label, name in {"cat": "cat", "lemon": "lemon", "red_apple": "apple"}.items():
        folder = tmp_path / "photos" / label / "2021"
        folder.mkdir(parents=True)
        emoji_of(name, 0).save(folder.parent / "1.png")
        emoji_of(name, 1).save(folder / "2.png")
    (tmp_path / "photos" / "okapi").mkdir()
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("notes")
    rows = "photos/cat/1.png,cat\nphotos/lemon/1.png,lemon\n"
    (tmp_path / "photos.csv").write_text(f"file,species\n{rows}")


def test_images(photos):
    failed, tried = doctest.testfile(str(DOC / "images.rst"), False, optionflags=OPTIONS)
    assert tried > 5 and failed == 0


def test_command_line(photos):
    text = (DOC / "command_line.rst").read_text(encoding="utf-8")
    lines = text.split(".. code-block:: console\n")[1].splitlines()
    block = list(takewhile(lambda line: not line or line.startswith(INDENT), lines))
    session = "\n".join(line.removeprefix(INDENT) for line in block).strip()
    commands = [part.split("\n", 1) for part in session.removeprefix("$ ").split("\n$ ")]
    assert len(commands) > 5
    for command, *expected in commands:
        program, *args = shlex.split(command)
        assert program == "skcandle"
        result = CliRunner().invoke(app, args)
        assert result.exit_code == 0, result.stderr
        want = f"{expected[0]}\n" if expected else ""
        assert doctest.OutputChecker().check_output(want, result.stdout, OPTIONS), result.stdout
