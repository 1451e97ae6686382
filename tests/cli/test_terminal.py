"""What is shown on a terminal, which differs from what goes to a pipe."""

import io
import sys

import pytest

from skcandle.cli import _failures, _tables


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def show(monkeypatch):
    """Show rows, and return what is then on the terminal."""
    monkeypatch.setenv("COLUMNS", "100")

    def show(rows):
        monkeypatch.setattr(sys, "stdout", Terminal())
        _tables.show(rows)
        return sys.stdout.getvalue()

    return show


def row(**values):
    return {"file": "a.png", "label": "cat", "probability": 0.5, "error": None} | values


def test_a_table_has_the_columns_that_have_values(show):
    assert "error" not in show([row()])
    out = show([row(), row(label=None, probability=None, error="is empty")])
    assert "error" in out and "is empty" in out


def test_brackets_in_names_are_no_markup(show):
    assert "[red]cat[/red]" in show([row(label="[red]cat[/red]")])


def test_a_long_table_says_how_to_have_all_of_it(show):
    out = show([row(file=f"{i}.png") for i in range(60)])
    assert "49.png" in out and "50.png" not in out
    assert "50 of 60 images; -o answers.csv writes them all." in out


def test_notes_are_for_terminals_only(monkeypatch, capsys):
    _failures.note("done")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _failures.note("done")
    assert capsys.readouterr().err == "done\n"
