"""A realistic folder of images, with odd names and with files that are broken or not images."""

from functools import cache

import numpy as np

from skcandle.datasets import load_emoji

# folder: emoji class
ODD_CLASSES = {
    "red_apple": "apple",
    "100% lemon": "lemon",
    "7 up-banana": "banana",
    "<b>cat & dog": "cat",
    "Äpfel 日本": "strawberry",
    "=cmd()": "airplane",
}
N_IMAGES = 4


emoji = cache(load_emoji)


def emoji_of(name, number):
    return emoji().images[np.flatnonzero(emoji().target == name)[number]]


def make_odd_folder(root):
    """Write the folder: 24 good images of 6 classes, and other files.

    Returns
    -------
    root : Path
    """
    for folder, name in ODD_CLASSES.items():
        place = root / folder / "deeper still" / "2021"
        place.mkdir(parents=True)
        emoji_of(name, 0).save(root / folder / "IMG 1.PNG", "PNG")
        emoji_of(name, 1).save(root / folder / "=HYPERLINK(1).jpg")
        emoji_of(name, 2).save(place / "ünï %20 <i>.webp")
        emoji_of(name, 0).rotate(15).save(place / "no_suffix", "PNG")
    (root / "okapi").mkdir()
    (root / ".hidden").mkdir()
    emoji_of("cat", 0).save(root / ".hidden" / "1.png")
    (root / "__MACOSX" / "red_apple").mkdir(parents=True)
    (root / "__MACOSX" / "red_apple" / "._IMG 1.PNG").write_bytes(b"resource fork")
    (root / "red_apple" / "Thumbs.db").write_bytes(b"thumbnails")
    (root / "red_apple" / ".DS_Store").write_bytes(b"settings")
    (root / "red_apple" / "notes.txt").write_text("about apples")
    return root


def break_folder(root):
    """Add broken images: two that have a bad header, and one that fails in decoding.

    Returns
    -------
    empty, text, truncated : Path
    """
    empty, text = root / "red_apple" / "empty.jpg", root / "red_apple" / "page.jpg"
    truncated = root / "red_apple" / "truncated.png"
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    image = emoji_of("apple", 3).resize((256, 256))
    image.save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:1000])
    return empty, text, truncated
