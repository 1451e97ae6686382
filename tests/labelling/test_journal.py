"""No label is lost, whatever happens to the process, the disk or the file."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from skcandle.labelling import NONE, _journal
from skcandle.labelling._journal import Journal
from skcandle.labelling._labels import Labels

NAMES = [f"{i}.png" for i in range(1000)]
SECONDS = 60
# stores label after label, and prints the number of each when it is stored; it is killed before the
# last one, because the pipe to the test fills up
STORES_UNTIL_KILLED = """
import sys
from pathlib import Path
from skcandle.labelling._journal import Journal

journal = Journal(Path(sys.argv[1]), Path(sys.argv[2]))
for i in range(len(journal.actions), 100_000):
    answers, when = [f"class {i % 7}"], "2026-01-01T00:00:00+00:00"
    journal.append({"do": "label", "images": [f"{i}.png"], "answers": answers, "when": when})
    print(i, flush=True)
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.journal.jsonl"


@pytest.fixture
def open_labels(path, photos):
    """Open the journal; it is closed when the next one is opened, and at the end."""
    opened = []

    def open_labels(names=NAMES):
        close()
        opened.append(Journal(path, photos))
        return Labels(names, [], opened[-1])

    def close():
        for journal in opened:
            journal.close()

    yield open_labels
    close()


def content_of(labels):
    found = labels.snapshot()
    return found.codes.tolist(), found.class_names


def test_labels_are_there_when_the_journal_is_opened_again(open_labels):
    labels = open_labels()
    labels.label([0, 1], ["cat", "cat"], ["dog", None], "doubt")
    labels.label([2], [NONE])
    expected = labels.snapshot().labels
    assert open_labels().snapshot().labels == expected
    assert [label.shown for _, label in expected] == ["dog", None, None]


def test_the_journal_only_grows(open_labels, path):
    labels, contents = open_labels(), [path.read_bytes()]
    for change in (lambda: labels.label([0], ["cat"]), labels.undo, labels.redo):
        change()
        contents.append(path.read_bytes())
    assert all(
        after.startswith(before) and after.endswith(b"\n") and after != before
        for before, after in zip(contents, contents[1:], strict=False)
    )


def test_a_label_is_synced_before_it_counts(open_labels, monkeypatch):
    labels, seen = open_labels(), []

    def fsync(file):
        seen.append(labels.snapshot().labels)

    monkeypatch.setattr(_journal.os, "fsync", fsync)
    labels.label([0], ["cat"])
    assert seen == [[]]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_process_loses_no_label(path, photos, open_labels):
    stored, names = -1, [f"{i}.png" for i in range(100_000)]
    for n_lines in (1, 5, 20):
        command = [sys.executable, "-c", STORES_UNTIL_KILLED, str(path), str(photos)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(n_lines):
                stored = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().splitlines()
            stored = int(said[-1]) if said else stored
        assert process.returncode == -signal.SIGKILL
        found = [i for i, _ in open_labels(names).snapshot().labels]
        assert found[: stored + 1] == list(range(stored + 1))
        open_labels()._journal.close()


def test_a_line_that_was_cut_off_anywhere_is_left_out(open_labels, path):
    labels = open_labels()
    labels.label([0], ["cat"])
    before, whole = content_of(labels), path.read_bytes()
    labels.label([1], ["dog"])
    longer = path.read_bytes()
    for length in range(len(whole), len(longer)):
        path.write_bytes(longer[:length])
        assert content_of(open_labels()) == before
        assert path.read_bytes() == whole


def test_a_header_that_was_cut_off_begins_again(open_labels, path):
    open_labels()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert content_of(open_labels()) == content_of(Labels(NAMES))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_is_said_at_once_and_leaves_nothing_half_written(
    open_labels, path, monkeypatch, fails
):
    labels = open_labels()
    labels.label([0], ["cat"])
    before, stored = content_of(labels), path.read_bytes()
    write = os.write
    with monkeypatch.context() as patch:

        def fill_up(file, data=None):
            if data is not None and len(data) > 20:
                return write(file, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(_journal.os, fails, fill_up)
        with pytest.raises(OSError, match="Nothing was stored, .*: the disk is full"):
            labels.label([1], ["dog"])
        with pytest.raises(OSError, match="the disk is full"):
            labels.undo()
    assert (content_of(labels), path.read_bytes()) == (before, stored)
    labels.label([1], ["dog"])
    assert content_of(open_labels()) == content_of(labels)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of resources")
def test_a_limit_on_files_is_as_a_full_disk(open_labels, path):
    import resource

    labels = open_labels()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="Nothing was stored"):
            labels.label([0], ["cat"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content_of(open_labels()) == content_of(Labels(NAMES))


def test_a_journal_that_another_program_changed_takes_no_label(open_labels, path):
    labels = open_labels()
    with open(path, "ab") as file:
        file.write(b'{"do":"undo"}\n')
    with pytest.raises(OSError, match="changed by another program"):
        labels.label([0], ["cat"])


def test_a_second_process_on_a_folder_is_refused(open_labels, photos, tmp_path):
    open_labels()
    with pytest.raises(BlockingIOError, match="Another process is labelling the folder"):
        Journal(tmp_path / "other.jsonl", photos)
    command = [sys.executable, "-c", STORES_UNTIL_KILLED, str(tmp_path / "b.jsonl"), str(photos)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert "Another process is labelling the folder" in result.stderr
    assert not (tmp_path / "b.jsonl").exists()


def changed_header(path, **changes):
    header, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(json.dumps(json.loads(header) | changes).encode() + b"\n" + b"".join(lines))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "written by a newer version of skcandle"),
        ({"folder": "/elsewhere"}, "belongs to the folder '/elsewhere', not to "),
        ({"format": "another"}, "is not a journal of labels"),
        ({"version": None}, "is not a journal of labels"),
    ],
)
def test_a_journal_that_does_not_fit_is_refused_and_stays(open_labels, path, changes, message):
    open_labels().label([0], ["cat"])
    changed_header(path, **changes)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as raised:
        open_labels()
    assert str(raised.value).count(". ") <= 1 and path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [b"no json", b"[]", b'{"do":"label"}', b'{"do":"fly","images":[],"when":""}', b"\xff\xfe"],
)
def test_a_damaged_line_is_named(open_labels, path, line):
    open_labels().label([0], ["cat"])
    with open(path, "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ValueError, match="is damaged in line 3"):
        open_labels()


def test_other_files_are_not_taken_for_journals(open_labels, path):
    path.write_text("image,label\na.png,cat\n")
    with pytest.raises(ValueError, match="is not a journal of labels"):
        open_labels()
    assert path.read_text() == "image,label\na.png,cat\n"
