"""Files that are written completely or not at all."""

import os
import stat

import pytest

from skcandle import _files
from skcandle._files import check_output, make_folder, replacing, write_file


def fill_disk(*args, **options):
    raise OSError(28, "No space left on device")


def test_a_file_has_its_content_and_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    path = write_file(str(tmp_path / "a.csv"), "caf\u00e9\n")
    assert path.read_bytes() == "caf\u00e9\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert write_file(path, b"\xff", overwrite=True).read_bytes() == b"\xff"


def test_characters_without_an_encoding_are_replaced(tmp_path):
    assert write_file(tmp_path / "a.csv", "x\udcff").read_bytes() == b"x?"


def test_a_temporary_file_has_the_suffix_of_the_file(tmp_path):
    with replacing(tmp_path / "a.parquet") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".parquet"


@pytest.mark.parametrize("former", [None, "old"])
def test_an_error_inside_the_block_leaves_everything_as_it_was(tmp_path, former):
    path = tmp_path / "a.csv"
    if former is not None:
        path.write_text(former)
    with pytest.raises(RuntimeError), replacing(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if former is None else [former])


@pytest.mark.parametrize("step", ["tempfile.mkstemp", "os.replace"])
def test_an_error_of_the_system_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, step):
    path = tmp_path / "a.html"
    path.write_text("old")
    monkeypatch.setattr(step, fill_disk)
    with pytest.raises(OSError, match=r"a\.html' cannot be written: No space left.* Choose anoth"):
        write_file(path, "new", overwrite=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_file_that_another_process_creates_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(FileExistsError, match="exists; --force"), replacing(path, option="--force"):
        path.write_text("of somebody else")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["of somebody else"]


@pytest.mark.parametrize("write", [check_output, lambda path: write_file(path, "text")])
@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("file", FileExistsError, "file' already exists; overwrite=True replaces it"),
        ("folder", IsADirectoryError, "is a folder; give the name of a file in it"),
        ("none/a.csv", FileNotFoundError, r"no folder '.*none'; create it first"),
    ],
)
def test_a_place_where_no_file_can_be_written(tmp_path, write, name, kind, message):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match=message):
        write(tmp_path / name)
    assert (tmp_path / "file").read_text() == "old"


def test_a_check_leaves_nothing_behind(tmp_path, monkeypatch):
    check_output(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(_files.tempfile, "mkstemp", fill_disk)
    with pytest.raises(OSError, match="a.csv' cannot be written: No space left on device"):
        check_output(tmp_path / "a.csv")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user without all rights")
def test_without_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match="a.html' cannot be written: Permission denied"):
        write_file(tmp_path / "a.html", "")


def test_folders_are_created_and_kept(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", parents=True)
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(
        FileNotFoundError, match=r"b' cannot be created: No such file or directory\."
    ):
        make_folder(tmp_path / "none" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file' is a file, not a folder"):
        make_folder(tmp_path / "file")
