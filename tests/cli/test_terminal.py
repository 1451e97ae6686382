"""What a terminal shows, which differs from what a pipe gets."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from skcandle.cli import _failures, _tables


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def show(monkeypatch):
    """Show rows, and return what the terminal shows."""
    monkeypatch.setenv("COLUMNS", "100")

    def show(rows):
        with redirect_stdout(Terminal()) as terminal:
            _tables.show(rows)
        return terminal.getvalue()

    return show


def row(**values):
    return {"file": "a.png", "label": "cat", "probability": 0.5, "error": None} | values


def test_a_table_has_the_columns_that_have_values(show):
    assert "error" not in show([row()])
    out = show([row(), row(label=None, probability=None, error="is empty")])
    assert "error" in out and "is empty" in out


def test_brackets_in_names_are_not_read_as_markup(show):
    assert "[red]cat[/red]" in show([row(label="[red]cat[/red]")])


def test_a_long_table_says_how_to_get_all_rows(show):
    out = show([row(file=f"{i}.png") for i in range(60)])
    assert "49.png" in out and "50.png" not in out
    assert "50 of 60 images; -o answers.csv writes them all." in out


@pytest.mark.parametrize("stderr, shown", [(io.StringIO(), ""), (Terminal(), "done\n")])
def test_notes_are_for_terminals_only(stderr, shown):
    with redirect_stderr(stderr):
        _failures.note("done")
    assert stderr.getvalue() == shown
