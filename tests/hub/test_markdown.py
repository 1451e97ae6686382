"""Names from other people inside Markdown."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skcandle.hub._markdown import escaped, table

MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
NAMES = [
    "a | b",
    "two\nlines\r\n| of | three |",
    "<script>alert(1)</script>",
    "`code`",
    r"a\|b \`c\`",
    "![picture](http://example.com/x.png)",
    "*all* _of_ ~~it~~ __init__",
    "$x$ &amp; &#60;",
    "# no heading",
    "ice_cream",
    "\u0915\u0941\u0924\u094d\u0924\u093e \U0001f600",
]


def shown(markdown):
    """The text of a paragraph, which must contain only plain text."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    assert page.startswith("<p>") and page.endswith("</p>\n") and page.count("<") == 2, page
    return html.unescape(page[3:-5])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(name):
    assert shown(f"x {escaped(name)} x") == f"x {' '.join(name.split())} x"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"]), min_size=1))
def test_any_text_is_shown_as_it_is(text):
    assert shown(f"x {escaped(text)} x") == f"x {' '.join(text.split())} x"


@pytest.mark.parametrize("name", NAMES)
def test_a_table_keeps_its_cells(name):
    columns = table(["Class", "Images"], [[name, 3], ["ant", name]])
    rows = zip(*columns.values(), strict=True)
    text = "| Class | Images |\n| --- | --- |\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)
    page = MarkdownIt("commonmark").enable("table").render(text)
    cells = [html.unescape(cell.split("</td>")[0]) for cell in page.split("<td>")[1:]]
    assert cells == [" ".join(name.split()), "3", "ant", " ".join(name.split())]


def test_control_characters_are_replaced():
    assert escaped("a\x00\x1b[0m") == "a\ufffd\ufffd&#91;0m"


def test_characters_that_change_the_direction_of_text_are_replaced():
    assert escaped("a\u202eb\u2066c") == "a\ufffdb\ufffdc"


def test_no_links_are_made_of_names():
    assert escaped("www.example.org") == "&#119;ww.example.org"
    assert shown(f"x {escaped('WWW.example.org')} x") == "x WWW.example.org x"


def test_plain_names_stay_readable_in_the_source():
    assert escaped("Ice_cream (soft), 50 %") == "Ice_cream (soft), 50 %"
