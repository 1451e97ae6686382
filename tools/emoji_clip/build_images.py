"""Rasterise openly licensed emoji drawings to 64 x 64 RGBA images.

The drawings come from the ``@iconify-json`` packages of package.json, names and
keywords from ``emojibase-data`` and ``emojilib``. Drawings of one emoji in different
art styles are matched by code point where a style gives it, otherwise by name.
"""

import argparse
import io
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

TRAIN_STYLES = ["noto", "noto-v1", "emojione", "fxemoji"]
TEST_STYLES = ["twemoji", "fluent-emoji", "fluent-emoji-flat"]
STYLES = TRAIN_STYLES + TEST_STYLES
IMAGE_SIZE = 64

# Groups without pictures of things (skin tones, flags, letters, arrows ...), and gendered and
# family variants of a person, are skipped.
SKIPPED_GROUPS = {"component", "flags"}
SKIPPED_SUBGROUPS = {
    "alphanum",
    "arrow",
    "av-symbol",
    "currency",
    "family",
    "gender",
    "keycap",
    "math",
    "person-symbol",
    "punctuation",
    "transport-sign",
    "zodiac",
}


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def squash(name):
    """Reduce a name to its ASCII letters and digits, for matching."""
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", name.lower())


def without_selector(code_points):
    """Drop the presentation selector from code points such as ``2764-FE0F``."""
    return code_points.lower().replace("-fe0f", "")


def load_emoji_names(node_modules):
    """Read names, kinds and keywords of the emoji that show a thing.

    Returns
    -------
    emoji : list of dict
        One entry per emoji: ``code``, ``name``, ``kind`` (its subgroup), ``tags``
        (keywords of emojibase-data) and ``keywords`` (of emojilib; the first one is
        an older short name).
    """
    groups = read_json(node_modules / "emojibase-data/meta/groups.json")
    keywords = read_json(node_modules / "emojilib/dist/emoji-en-US.json")
    emoji = []
    for entry in read_json(node_modules / "emojibase-data/en/data.json"):
        if "group" not in entry:
            continue
        group = groups["groups"][str(entry["group"])]
        kind = groups["subgroups"][str(entry["subgroup"])]
        if group in SKIPPED_GROUPS or kind in SKIPPED_SUBGROUPS:
            continue
        if group == "people-body" and re.match(r"(wo)?m[ae]n\b.", entry["label"]):
            continue
        symbol = entry["emoji"]
        words = keywords.get(symbol, keywords.get(symbol.rstrip("\ufe0f"), []))
        emoji.append(
            {
                "code": without_selector(entry["hexcode"]),
                "name": entry["label"],
                "kind": kind,
                "tags": entry.get("tags", []),
                "keywords": [word.replace("_", " ") for word in words],
            }
        )
    return emoji


def match_icons(emoji, icon_set, code_points):
    """Find the drawing of each emoji in one icon set.

    Parameters
    ----------
    emoji : list of dict
        From `load_emoji_names`.
    icon_set : dict
        Content of the set's ``icons.json``.
    code_points : dict
        Content of the set's ``chars.json``: code points to icon name.

    Returns
    -------
    icon_of : dict of int to str
        Icon name for the number of each emoji that the set draws.
    """
    icons = icon_set["icons"]
    aliases = {alias: entry["parent"] for alias, entry in icon_set.get("aliases", {}).items()}
    by_code = {entry["code"]: i for i, entry in enumerate(emoji)}
    by_name = {squash(entry["name"]): i for i, entry in enumerate(emoji)}
    for i, entry in enumerate(emoji):
        for short_name in entry["keywords"][:1]:
            by_name.setdefault(squash(short_name), i)

    icon_of = {}
    for code, icon in code_points.items():
        i = by_code.get(without_selector(code))
        if i is not None and icon in icons:
            icon_of.setdefault(i, icon)
    for name in [*icons, *aliases]:
        i, icon = by_name.get(squash(name)), aliases.get(name, name)
        if i is not None and icon in icons:
            icon_of.setdefault(i, icon)
    return icon_of


def as_svg(icon_set, icon):
    """Write one icon of a set as an SVG document."""
    entry = icon_set["icons"][icon]
    left, top = entry.get("left", 0), entry.get("top", 0)
    width = entry.get("width", icon_set.get("width", 16))
    height = entry.get("height", icon_set.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">'
        f"{entry['body']}</svg>"
    )


def rasterise(svg):
    """Draw an SVG document at twice the size, centre it and halve it.

    Returns
    -------
    image : ndarray of shape (64, 64, 4), dtype uint8
        RGBA, colours not multiplied by alpha.
    """
    side = 2 * IMAGE_SIZE
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    drawing.thumbnail((side, side))
    square = Image.new("RGBA", (side, side))
    square.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return np.asarray(square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX))


def main():
    """Draw all styles into one ``.npz`` file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--node-modules", type=Path, default="node_modules")
    parser.add_argument("--out", type=Path, default="build/images.npz")
    args = parser.parse_args()

    emoji = load_emoji_names(args.node_modules)
    images, styles, numbers = [], [], []
    for style in STYLES:
        folder = args.node_modules / "@iconify-json" / style
        icon_set = read_json(folder / "icons.json")
        chars = folder / "chars.json"
        code_points = read_json(chars) if chars.exists() else {}
        icon_of = match_icons(emoji, icon_set, code_points)
        for i in sorted(icon_of):
            images.append(rasterise(as_svg(icon_set, icon_of[i])))
            styles.append(style)
            numbers.append(i)
        print(f"{style}: {len(icon_of)} of {len(emoji)} emoji", flush=True)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, images=images, styles=styles, numbers=numbers)
    names_file = args.out.with_name("emoji.json")
    names_file.write_text(json.dumps(emoji, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
