import os
import threading

import numpy as np
import pytest
from odd_folder import ODD_CLASSES, break_folder, emoji_of, make_odd_folder

from skcandle import _image_files
from skcandle.datasets import load_image_folder, load_image_table
from skcandle.exceptions import ImageReadError, UnreadableImageWarning


@pytest.fixture
def odd(tmp_path):
    return make_odd_folder(tmp_path)


def image_in(folder, name="1.png", emoji="apple"):
    folder.mkdir(parents=True, exist_ok=True)
    emoji_of(emoji, 0).save(folder / name, "PNG")
    return folder / name


# --- folders ---------------------------------------------------------------------------------


def test_every_image_has_the_class_of_the_first_folder_level(odd):
    data = load_image_folder(odd)
    assert len(data.images) == 4 * len(ODD_CLASSES)
    assert set(data.target_names) == set(ODD_CLASSES)
    for path, label in zip(data.images, data.target, strict=True):
        assert os.path.relpath(path, odd).split(os.sep)[0] == label


def test_hidden_files_and_those_of_systems_are_passed_over(odd):
    data = load_image_folder(odd)
    paths = [*data.images, *(path for path, _ in data.skipped)]
    assert not any(".hidden" in p or "__MACOSX" in p or "Thumbs" in p or "DS_" in p for p in paths)


def test_foreign_files_are_listed_as_skipped_and_are_no_error(odd):
    [(path, reason)] = load_image_folder(odd).skipped
    assert path.endswith("notes.txt") and reason == "is not of a known image format"


def test_class_folders_without_images_are_named(odd):
    assert load_image_folder(odd).empty_names == ["okapi"]


def test_order_is_that_of_classes_then_names(tmp_path):
    for name in ("b/2.png", "b/10.png", "a/z.png", "B/1.png"):
        image_in((tmp_path / name).parent, name.split("/")[1])
    found = [os.path.relpath(path, tmp_path) for path in load_image_folder(tmp_path).images]
    assert found == [os.path.join(*name.split("/")) for name in
                     ("B/1.png", "a/z.png", "b/10.png", "b/2.png")]  # fmt: skip


def test_all_broken_files_are_named_in_one_error(odd):
    empty, text, _ = break_folder(odd)
    with pytest.raises(ImageReadError) as caught:
        load_image_folder(odd)
    message = str(caught.value)
    assert message.startswith("2 of 27 images")
    assert f"{str(empty)!r} is empty (0 bytes)" in message
    assert f"{str(text)!r} is not of a known image format" in message
    assert 'on_error="skip"' in message


def test_broken_files_are_left_out_with_one_warning(odd):
    empty, text, _ = break_folder(odd)
    with pytest.warns(UnreadableImageWarning) as caught:
        data = load_image_folder(odd, on_error="skip")
    assert len(caught) == 1 and "2 of 27 images" in str(caught[0].message)
    assert {str(empty), str(text)} < {path for path, _ in data.skipped}
    assert not {str(empty), str(text)} & set(data.images)


def test_a_message_names_ten_files_and_their_number(tmp_path):
    image_in(tmp_path / "cat")
    for i in range(12):
        (tmp_path / "cat" / f"broken {i:02}.jpg").write_bytes(b"")
    with pytest.raises(ImageReadError, match="^12 of 13 images") as caught:
        load_image_folder(tmp_path)
    assert "broken 09" in str(caught.value) and "broken 10" not in str(caught.value)


def test_images_beside_the_class_folders_are_no_silent_loss(tmp_path):
    image_in(tmp_path / "cat")
    image_in(tmp_path, "stray.png")
    with pytest.raises(ImageReadError, match="stray.png' is not in a class folder"):
        load_image_folder(tmp_path)


def test_without_recursion_deeper_folders_are_listed(odd):
    data = load_image_folder(odd, recursive=False)
    assert len(data.images) == 2 * len(ODD_CLASSES)
    assert (
        sum(reason == "is a folder, which recursive=False leaves out" for _, reason in data.skipped)
        == 6
    )


def test_suffixes_choose_files_in_capitals_or_not(odd):
    data = load_image_folder(odd, suffixes=["png", ".JPG"])
    assert {os.path.splitext(path)[1] for path in data.images} == {".PNG", ".jpg"}
    assert any("suffix is not in suffixes" in reason for _, reason in data.skipped)
    with pytest.raises(TypeError, match=r"suffixes must be a list; use \['.png'\]"):
        load_image_folder(odd, suffixes=".png")


def test_labels_are_in_normal_form_c(tmp_path):
    image_in(tmp_path / "A\u0308pfel")
    assert load_image_folder(tmp_path).target.tolist() == ["Äpfel"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    image_in(tmp_path / "elsewhere" / "deep")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    assert len(load_image_folder(photos).images) == 1


@pytest.mark.skipif(os.name == "nt", reason="names are bytes")
def test_a_folder_whose_name_is_no_text_is_told(tmp_path):
    image_in(tmp_path / "cat")
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    except OSError:
        pytest.skip("the file system wants UTF-8")
    image_in(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(ImageReadError, match="name is not valid UTF-8"):
        load_image_folder(tmp_path)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    image_in(tmp_path / "cat")
    (tmp_path / "dog").mkdir()
    scandir = os.scandir

    def denied(path):
        if os.fspath(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(_image_files.os, "scandir", denied)
    with pytest.raises(ImageReadError, match=r"dog' cannot be listed \(Permission denied\)"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    "entries, error, message",
    [
        (None, FileNotFoundError, "The folder '.*photos' does not exist"),
        ("file", NotADirectoryError, "photos' must be a folder of images, not a file"),
        ([], ValueError, "contains no image.*one folder per class, as in .*cat/1.jpg"),
        (
            ["cat/", "dog/deep/"],
            ValueError,
            r"no image.* 2 folders \(such as 'cat'\) contain no fil",
        ),
        (["cat/a.txt"], ValueError, "contain 1 files, none of which is an image"),
    ],
)
def test_what_is_no_folder_of_images(tmp_path, entries, error, message):
    photos = tmp_path / "photos"
    if entries == "file":
        photos.write_text("")
    elif entries is not None:
        photos.mkdir()
        for entry in entries:
            (photos / entry).parent.mkdir(exist_ok=True)
            (photos / entry).mkdir(parents=True) if entry[-1] == "/" else (
                photos / entry
            ).write_text("a")
    with pytest.raises(error, match=message):
        load_image_folder(photos)


def test_on_error_is_checked(tmp_path):
    with pytest.raises(ValueError, match='on_error must be "raise" or "skip", got \'ignore\''):
        load_image_folder(tmp_path, on_error="ignore")


def test_no_image_is_decoded(odd, monkeypatch):
    from PIL import ImageFile

    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    load_image_folder(odd)
    assert not decoded


def test_files_are_opened_by_several_threads(tmp_path, monkeypatch):
    for i in range(4):
        image_in(tmp_path / "cat", f"{i}.png")
    monkeypatch.setattr(_image_files, "BLOCK", 1)
    barrier = threading.Barrier(2, timeout=30)
    kind = _image_files._kind
    monkeypatch.setattr(_image_files, "_kind", lambda *args: (barrier.wait(), kind(*args))[1])
    assert len(load_image_folder(tmp_path).images) == 4


# --- tables ----------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    for i, name in enumerate(["apple", "lemon"]):
        image_in(tmp_path / "images", f"{i}.png", name)
    path = tmp_path / "table.csv"
    path.write_text("image,label\nimages/0.png,007\nimages/1.png,NA\n")
    return path


def test_a_csv_file_has_labels_as_they_are_written(table):
    data = load_image_table(table)
    assert data.images == [str(table.parent / "images" / f"{i}.png") for i in range(2)]
    assert data.target.tolist() == ["007", "NA"]
    assert data.skipped == []


def test_tabs_byte_order_marks_and_other_columns(table):
    path = table.with_suffix(".tsv")
    path.write_text("file\tkind\timage\nimages/0.png\tapple\tx\n", encoding="utf-8-sig")
    data = load_image_table(path, image="file", label="kind")
    assert data.target.tolist() == ["apple"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found_in_the_header(table, separator, suffix):
    path = table.with_suffix(suffix)
    rows = [["image", "label", "note"], ["images/0.png", "apple", "a"]]
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    assert load_image_table(path).target.tolist() == ["apple"]


@pytest.mark.parametrize(
    "header", ["Image,Label", "IMAGE, label ", "\ufeffImage,Label", "file,species", "Image,kind"]
)
def test_columns_are_found_by_their_names_or_by_what_they_hold(table, header):
    table.write_text(f"{header}\nimages/0.png,apple\nimages/1.png,lemon\n", encoding="utf-8")
    data = load_image_table(table)
    assert data.target.tolist() == ["apple", "lemon"]
    assert [os.path.basename(path) for path in data.images] == ["0.png", "1.png"]


@pytest.mark.parametrize("kind", ["pandas", "parquet"])
def test_columns_of_frames_are_found_by_what_they_hold(table, kind):
    pd = pytest.importorskip("pandas")
    source = pd.DataFrame({"species": ["a", "b"], "file": ["images/0.png", None]})
    root = table.parent
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        source.to_parquet(table.with_suffix(".parquet"))
        source, root = table.with_suffix(".parquet"), None
    with pytest.warns(UnreadableImageWarning, match="1 of 2 rows"):
        data = load_image_table(source, root=root, on_error="skip")
    assert data.target.tolist() == ["a"]


@pytest.mark.parametrize(
    "columns, options, lacking",
    [
        ("a.png,b.png,apple", {}, "image"),
        ("images/0.png,apple,ripe", {}, "label"),
        ("images/0.png,apple", {"image": "path"}, "path"),
        ("images/0.png,apple", {"label": "class"}, "class"),
        ("none,apple", {}, "image"),
    ],
)
def test_a_column_is_not_guessed_among_several_or_in_place_of_a_given_name(
    table, columns, options, lacking
):
    names = ",".join(f"c{i}" for i in range(columns.count(",") + 1))
    table.write_text(f"{names}\n{columns}\n")
    with pytest.raises(ValueError, match=f"has no column '{lacking}'; its columns are 'c0', 'c1'"):
        load_image_table(table, **options)


def test_without_labels_there_is_no_target(table):
    assert load_image_table(table, label=None).target is None


@pytest.mark.parametrize("kind", ["pandas", "polars", "parquet"])
def test_frames_and_parquet_files(table, kind):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"image": ["images/0.png", "images/1.png"], "label": ["a", "b"]})
    source, root = frame, table.parent
    if kind == "polars":
        source = pytest.importorskip("polars").DataFrame(frame.to_dict("list"))
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        source, root = table.with_suffix(".parquet"), None
        frame.to_parquet(source)
    data = load_image_table(source, root=root)
    assert data.target.tolist() == ["a", "b"]
    assert all(map(os.path.exists, data.images))


def test_rows_that_cannot_be_used_are_named_with_their_numbers(table):
    table.write_text("image,label\nimages/0.png,a\nimages/9.png,b\nimages/1.png, \n,c\n")
    with pytest.raises(ImageReadError) as caught:
        load_image_table(table)
    assert caught.value.positions == [1, 2, 3]
    message = str(caught.value)
    assert "3 of 4 rows of the table cannot be used" in message
    assert "9.png' cannot be opened (No such file" in message
    assert "1.png' has no label in the column 'label'" in message
    assert "'row 3' has no path in the column 'image'" in message
    with pytest.warns(UnreadableImageWarning, match="3 of 4 rows"):
        data = load_image_table(table, on_error="skip")
    assert data.target.tolist() == ["a"] and len(data.skipped) == 3


def test_labels_that_are_nan_are_named(table):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"image": ["images/0.png"] * 2, "label": ["a", np.nan]})
    with pytest.raises(ImageReadError, match="0.png' has no label in the column 'label'"):
        load_image_table(frame, root=table.parent)


def test_a_table_of_which_nothing_is_left_asks_for_the_root(table):
    with pytest.raises(ImageReadError, match="No row is left. If paths are relative to another"):
        load_image_table(table, root="/elsewhere", on_error="skip")


@pytest.mark.parametrize(
    "name, content, error, message",
    [
        ("none.csv", None, FileNotFoundError, "The file '.*none.csv' does not exist"),
        ("a.xlsx", b"a", ValueError, "must end in .csv, .tsv or .parquet, got .*a.xlsx"),
        ("a.csv", b"", ValueError, "has no column 'image'; its columns are none"),
        ("a.csv", b"image,a,b\n", ValueError, "no column 'label'; its columns are 'image', 'a'"),
        ("a.csv", b"image,label\n", ValueError, "has no rows"),
        ("a.csv", b"image,label\n\xff,a\n", ValueError, "must be a table in UTF-8"),
        ("a.parquet", b"image", ValueError, "is not a Parquet file"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, error, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        load_image_table(tmp_path / name)


def test_a_table_is_a_file_or_a_frame():
    with pytest.raises(
        TypeError, match="table must be a csv or Parquet file or a DataFrame, got list"
    ):
        load_image_table([("a.png", "a")])
