"""The HTML and CSV files of a report: content, escaping, and how they are written."""

import base64
import csv
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.inspection import ImageReport
from skcandle.inspection._csv import FORMULA, csv_text

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "100% {{ 7 * 7 }} %s &amp;",
    "</script><!-- '",
    "=HYPERLINK(\"x\")",
    "日本語 \u202e\u2028 é",
]  # fmt: skip
VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """Tags, text by section, and scripts of an HTML file."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self.open = [], [], {}, []
        self.section = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "section":
            self.section = attrs["id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass
        if tag == "section":
            self.section = None

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text[self.section] = self.text.get(self.section, "") + data

    def all(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]


@pytest.fixture(scope="module")
def images_and_words():
    emoji = load_emoji()
    words = ["apple", "cat", "clock", "lemon", "moon", "car"]
    chosen = np.flatnonzero(np.isin(emoji.target, words))
    return [emoji.images[i] for i in chosen], emoji.target[chosen], words


@pytest.fixture(scope="module")
def hostile(images_and_words, tmp_path_factory):
    """A report in which classes, files and the title contain HTML."""
    images, target, words = images_and_words
    folder = tmp_path_factory.mktemp("=1+1 <b>&amp;")
    name_of = dict(zip(words, HOSTILE, strict=True))
    paths, y = [], [name_of[word] for word in target]
    for number, image in enumerate(images):
        paths.append(folder / f"<i onload='alert(3)'>\"{number:03d}.png")
        image.save(paths[-1])
    pipe = make_candle_pipeline("emoji-clip", class_names=dict(zip(HOSTILE, words, strict=True)))
    pipe.fit(paths, y)
    broken = folder / "<img src=x onerror=alert(4)>.png"
    broken.write_bytes(b"")
    y = [HOSTILE[1], *y[1:], HOSTILE[0], HOSTILE[0]]  # one label is wrong
    return ImageReport(pipe, [*paths, paths[0], broken], y, title="<script>alert(5)</script>")


@pytest.fixture(scope="module")
def page(hostile):
    return Page(hostile._page)


# --- the page --------------------------------------------------------------------------------


def test_sections_with_labels(page):
    assert [attrs["id"] for attrs in page.all("section")] == [
        "tail",
        "confusions",
        "errors",
        "label-errors",
        "duplicates",
        "novel",
        "uncertain",
        "unreadable",
        "classes",
    ]


def test_sections_without_labels(images_and_words):
    images, target, _ = images_and_words
    pipe = make_candle_pipeline("emoji-clip").fit(images, target)
    page = Page(ImageReport(pipe, images)._page)
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections == ["tail", "duplicates", "novel", "uncertain", "classes"]
    assert "accuracy" not in page.text[None]
    links = {attrs["href"] for attrs in page.all("a")} - {"#main"}
    assert links <= {f"#{section}" for section in sections}


def test_every_class_has_a_row_and_a_bar_with_its_numbers(page, hostile):
    labels = [a["data-value"] for a in page.all("th", scope="row") if a.get("data-column") == "0"]
    assert sorted(labels) == sorted(HOSTILE)
    recalls = [float(a["data-value"]) for a in page.all("td") if a.get("data-column") == "3"]
    assert np.mean(recalls) == pytest.approx(hostile.accuracy)
    assert len(page.all("rect", **{"class": "count"})) == len(HOSTILE)


def test_only_what_the_template_wrote_is_a_tag(page):
    assert {"b", "i"} & {tag for tag, _ in page.tags} <= {"i"}
    assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in page.all("img"))
    assert len(page.scripts) == 2
    assert not any("alert(" in script for script in page.scripts[1:])
    assert all("onload" not in attrs for attrs in page.all("i"))


def test_names_are_shown_as_they_are(page):
    assert "<script>alert(5)</script>" in page.text[None]
    for name in HOSTILE:
        assert name in page.text["classes"]
    assert "<img src=x onerror=alert(4)>.png" in page.text["unreadable"]
    assert "{{ 7 * 7 }} %s &amp;" in page.text["classes"]


def test_the_data_of_the_page_are_the_flags(page, hostile):
    flags = json.loads(page.scripts[0])
    assert [tuple(flag) for flag in flags] == hostile.flagged()
    assert "<" not in page.scripts[0]


def test_nothing_is_loaded_and_only_its_own_script_runs(page):
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "script-src 'sha256-" in policy
    assert not page.all("link")
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/webp"))


def test_the_hash_in_the_policy_is_that_of_the_script(hostile, page):
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in hostile._page


def test_thumbnails_are_embedded_for_shown_images_only(hostile, images_and_words):
    images, target, _ = images_and_words
    pipe = make_candle_pipeline("emoji-clip").fit(images, target)
    page = Page(ImageReport(pipe, images, n_shown=2)._page)
    shown = {attrs["data-position"] for attrs in page.all("li") if "data-position" in attrs}
    assert len({attrs["src"] for attrs in page.all("img")}) <= len(shown) < len(images)


def test_every_control_has_a_name(page):
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs["alt"]
        if tag == "input" and attrs["type"] == "checkbox":
            assert attrs["aria-label"].startswith("select ")


def test_in_a_notebook_the_page_is_framed(hostile):
    (frame,) = Page(hostile._repr_html_()).all("iframe")
    assert frame["srcdoc"] == hostile._page
    assert frame["sandbox"] == "allow-scripts allow-downloads"
    assert frame["title"] == "<script>alert(5)</script>"


def test_found_images_are_escaped(hostile):
    text = hostile.search("<b>x", n_images=2)._repr_html_()
    assert "&lt;b&gt;x" in text
    assert {tag for tag, _ in Page(text).tags} == {
        "div",
        "p",
        "b",
        "figure",
        "img",
        "figcaption",
        "bdi",
    }


# --- writing ---------------------------------------------------------------------------------


def test_a_report_is_saved_and_not_overwritten(hostile, tmp_path):
    path = tmp_path / "report.html"
    assert hostile.save(path) == path
    assert path.read_text(encoding="utf-8") == hostile._page
    with pytest.raises(FileExistsError, match="already exists; overwrite=True replaces it"):
        hostile.save(path)
    path.write_text("old")
    hostile.save(str(path), overwrite=True)
    assert path.read_text(encoding="utf-8") == hostile._page
    assert os.listdir(tmp_path) == ["report.html"]


def test_flags_are_saved_as_csv_without_formulas(hostile, tmp_path):
    path = hostile.save_flagged(tmp_path / "flagged.csv")
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["position", "path", "reason", "label", "answer", "confidence"]
    assert len(rows) == len(hostile.flagged())
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row)
    assert '\'=HYPERLINK("x")' in {cell for row in rows for cell in row}
    assert {row[1] for row in rows} == {flag.path for flag in hostile.flagged()}


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1d1"])
def test_a_cell_that_begins_like_a_formula_is_text(cell):
    text = csv_text(["a", "b", "c"], [[cell, "x" + cell, 1]])
    _, row = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert row == ["'" + cell, "x" + cell, "1"]


def test_the_script_of_the_page_knows_the_same_formulas(page):
    (characters,) = re.findall(r"/\^\[(.*?)\]/\.test", page.scripts[1])
    known = [chr(code) for code in range(0x10000) if re.match(f"[{characters}]", chr(code))]
    assert sorted(known) == sorted(FORMULA)
