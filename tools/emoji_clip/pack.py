"""Write the package data: the checkpoint and the drawings of the test styles."""

import argparse
import io
import shutil
import zipfile
from collections import Counter
from pathlib import Path

from build_images import TEST_STYLES
from evaluate import load_labelled

CHECKPOINT_FILES = [
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "training.json",
]
# A fixed time stamp makes the archive identical in every build.
TIME_STAMP = (2024, 1, 1, 0, 0, 0)


def pack_checkpoint(checkpoint, folder):
    """Copy the files of a checkpoint that open_clip and readers need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CHECKPOINT_FILES:
        shutil.copyfile(checkpoint / name, folder / name)


def pack_images(images_file, folder):
    """Write ``images.zip`` with one WebP file per image: ``style/class/number.webp``."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels, styles = load_labelled(images_file, TEST_STYLES)
    seen = Counter()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for image, label, style in zip(images, labels, styles, strict=True):
            seen[style, label] += 1
            webp = io.BytesIO()
            image.save(webp, "WEBP", quality=90, method=6)
            path = f"{style}/{label}/{seen[style, label]:02}.webp"
            archive.writestr(zipfile.ZipInfo(path, TIME_STAMP), webp.getvalue())


def main():
    """Write the package data."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=Path, default="build/images.npz")
    parser.add_argument("--out", type=Path, default="../../skcandle/data")
    args = parser.parse_args()
    pack_checkpoint(args.checkpoint, args.out / "emoji-clip")
    pack_images(args.images, args.out / "emoji")


if __name__ == "__main__":
    main()
