"""The code in README.rst and on the pages in doc/, run in a folder like the one they describe."""

import ast
import doctest
import re
import shlex
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

import pytest
from helpers import needs_onnx_exporter
from odd_folder import emoji_of
from typer.testing import CliRunner

from skcandle.cli._app import app

pytest.importorskip("dask", reason="pages use packages from pip install '.[tests]'")

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"
INDENT = 4 * " "
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Code without prompts, visible or hidden (testsetup, testcleanup).
BLOCK = re.compile(
    r"^\.\. (?:code-block:: python|testsetup::|testcleanup::)\n\n((?: {3,}.*\n|\n)+)", re.MULTILINE
)


def examples_of(text):
    """Doctests of a page and its code blocks, in order."""
    examples = [(example.lineno, example) for example in doctest.DocTestParser().get_examples(text)]
    for block in BLOCK.finditer(text):
        source = dedent(block[1])
        line = text[: block.start(1)].count("\n")
        if ">>>" not in source:
            ast.parse(source)
            examples.append((line, doctest.Example(f"exec({source!r}, globals())\n", "")))
    return [example for _, example in sorted(examples, key=lambda pair: pair[0])]


FILES = [path for path in DOC.glob("*.rst") if not path.name.startswith("sg_")]  # of the gallery
PAGES = {path.name: examples_of(path.read_text(encoding="utf-8")) for path in FILES}


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
    (tmp_path / "more_photos" / "quagga").mkdir(parents=True)
    emoji_of("deer", 0).save(tmp_path / "more_photos" / "quagga" / "1.png")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("notes")
    rows = "photos/cat/1.png,cat\nphotos/lemon/1.png,lemon\n"
    (tmp_path / "photos.csv").write_text(f"file,species\n{rows}")


SLOW = {
    "batch_engines.rst",
    "deployment.rst",
    "evaluation.rst",
    "inspection.rst",
    "labelling.rst",
    "new_classes.rst",
    "probabilities.rst",
    "scale_out.rst",
}
MARKS = {"deployment.rst": [needs_onnx_exporter]}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=[*MARKS.get(name, []), *([pytest.mark.slow] * (name in SLOW))])
        for name, examples in sorted(PAGES.items())
        if examples
    ],
)
def test_the_code_of_the_page_runs(page, photos):
    test = doctest.DocTest(PAGES[page], {"__name__": "__main__"}, page, page, 0, None)
    report = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_code_of_the_readme_runs_and_adds_the_class(photos):
    (code,) = (block[1] for block in BLOCK.finditer((ROOT / "README.rst").read_text("utf-8")))
    default = "make_candle_pipeline("
    assert code.count(default) == 1
    emoji_of("cat", 2).save("unknown.jpg")
    names = {}
    exec(dedent(code).replace(default, f'{default}"emoji-clip", '), names)  # no photographs here
    pipe = names["pipe"]
    assert pipe.classes_.tolist() == ["cat", "lemon", "okapi", "quagga", "red_apple", "saola"]
    assert pipe.predict(["unknown.jpg"]).tolist() == ["cat"]


def test_no_block_of_any_page_is_skipped():
    pattern = re.compile(r"^(?! *\.\.).*::$", re.MULTILINE)  # use code-block:: python
    found = {path.name: pattern.findall(path.read_text(encoding="utf-8")) for path in FILES}
    assert {page: lines for page, lines in found.items() if lines} == {}


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
