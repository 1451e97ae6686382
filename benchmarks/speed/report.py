"""Time and size of an image report, compared with encoding its images, and its label errors.

The bundled images are rotated and made brighter or darker at random, so that none is an exact copy.
Prints the seconds for encoding and for the report, and the size of the page. Then 5 % of the labels
of the bundled images are changed, and it prints how many of the likely label errors are among
these::

    python -m benchmarks.speed.report --n-images 10000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import ImageEnhance

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.inspection import ImageReport


def perturbed(images, target, n_images, seed=0):
    """Randomly changed copies of images, and their labels."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(images), n_images)
    angles, factors = rng.uniform(-40, 40, n_images), rng.uniform(0.6, 1.4, n_images)
    made = [
        ImageEnhance.Brightness(images[i].rotate(angle, fillcolor="white")).enhance(factor)
        for i, angle, factor in zip(chosen, angles, factors, strict=True)
    ]
    return made, target[chosen]


def changed_labels(emoji, seed=0):
    """Print how many changed labels of training images the report finds."""
    rng = np.random.default_rng(seed)
    y = emoji.target.copy()
    chosen = rng.choice(len(y), len(y) // 20, replace=False)
    y[chosen] = rng.choice(emoji.target_names, len(chosen))
    pipe = make_candle_pipeline("emoji-clip").fit(emoji.images, y)
    errors = ImageReport(pipe, emoji.images, y).label_errors
    is_changed = (y != emoji.target)[errors]
    print(
        f"{np.count_nonzero(y != emoji.target)} changed labels: {len(errors)} likely errors, "
        f"{is_changed.sum()} of them changed labels, {is_changed[:24].sum()} of the first 24"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=10_000)
    args = parser.parse_args()
    emoji = load_emoji()
    pipe = make_candle_pipeline("emoji-clip").fit(emoji.images, emoji.target)
    images, y = perturbed(emoji.images, emoji.target, args.n_images)

    start = time.perf_counter()
    pipe[:-1].transform(images)
    encoded = time.perf_counter()
    report = ImageReport(pipe, images, y)
    found = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = report.save(Path(folder) / "report.html")
        saved = time.perf_counter()
        megabytes = path.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{len(images):,} images: encoding {encoded - start:.1f} s", end=", ")
    print(f"report {saved - encoded:.1f} s (the page takes {saved - found:.1f} s of it)", end=", ")
    print(f"page {megabytes:.2f} MB, peak memory of the process {peak:,.0f} MB")
    changed_labels(emoji)


if __name__ == "__main__":
    main()
