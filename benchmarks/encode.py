"""Images per second of CLIPFeaturizer, beside the loop that open_clip's documentation shows.

    python benchmarks/encode.py
    python benchmarks/encode.py --memory 100000

The JPEG files are made on the spot. Both sides have the same weights, files, batch size and
process, and take turns, so that other work on the machine meets them alike; a ratio is the median
over the rounds. Prints Markdown tables.
"""

import argparse
import io
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import open_clip
import torch
from joblib import effective_n_jobs
from PIL import Image

from skcandle import CLIPFeaturizer
from skcandle.clip._cache.file_digests import SETTLED_NS, file_digests
from skcandle.clip._cache.memory import memory_cache
from skcandle.clip._checkpoint import find_checkpoint, open_clip_name

BATCH_SIZE = 64
TINY = "emoji-tiny"
CASES = [  # model, shortest and longest side, images
    (TINY, 224, 1000, 512),
    ("ViT-B-32", 224, 1000, 256),
    ("ViT-B-32", 224, 224, 256),
]
N_WARM = 1024


def photograph(rng, shortest, longest):
    """A JPEG with structure of all sizes, as photographs have."""
    width, height = rng.integers(shortest, longest + 1, 2)
    image = np.zeros((height, width, 3))
    for cells in (3, 12, 48, 192):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        image += np.asarray(Image.fromarray(coarse).resize((width, height))) / cells**0.5
    image *= 255 / image.max()
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def make_files(folder, n_images, shortest, longest, n_pictures=500):
    """Paths of files that all differ; beyond ``n_pictures``, in bytes that no decoder reads."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = [photograph(rng, shortest, longest) for _ in range(min(n_images, n_pictures))]
    paths = []
    for i in range(n_images):
        path = folder / f"{i:06d}.jpg"
        path.write_bytes(pictures[i % n_pictures] + i.to_bytes(4, "little"))
        paths.append(str(path))
    return paths


def plain_loop(paths, model, preprocess):
    rows = []
    with torch.no_grad():
        for start in range(0, len(paths), BATCH_SIZE):
            batch = [preprocess(Image.open(path)) for path in paths[start : start + BATCH_SIZE]]
            features = model.encode_image(torch.stack(batch))
            rows.append(features / features.norm(dim=-1, keepdim=True))
    return torch.cat(rows).numpy()


def featurizer(name, **parameters):
    return CLIPFeaturizer(name, None, batch_size=BATCH_SIZE, device="cpu", **parameters)


def cold_transform(clip, paths):
    memory_cache.clear()
    file_digests.clear()
    return clip.transform(paths)


def seconds(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def compare(name, paths, rounds):
    """Images per second of the plain loop, and of one and of all threads, in each round."""
    torch.manual_seed(0)  # the seed of the featurizer's random weights
    model, _, preprocess = open_clip.create_model_and_transforms(
        open_clip_name(find_checkpoint(name, None))
    )
    model.eval()
    one, every = (featurizer(name, n_jobs=n_jobs) for n_jobs in (1, -1))
    few = paths[:BATCH_SIZE]
    expected = plain_loop(few, model, preprocess)
    for clip in (one, every):  # loads the model
        np.testing.assert_allclose(cold_transform(clip, few), expected, atol=1e-5)
    rates = []
    for _ in range(rounds):
        times = [
            seconds(plain_loop, paths, model, preprocess)[0],
            seconds(cold_transform, one, paths)[0],
            seconds(cold_transform, every, paths)[0],
        ]
        rates.append(len(paths) / np.array(times))
    return np.array(rates)


def print_encoding(root, rounds):
    n_threads = effective_n_jobs(-1)
    print(f"| model | JPEG sides | plain loop | n_jobs=1 | ratio | n_jobs={n_threads} | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for i, (name, shortest, longest, n_images) in enumerate(CASES):
        paths = make_files(root / f"case{i}", n_images, shortest, longest)
        rates = compare(name, paths, rounds)
        plain, one, every = np.median(rates, axis=0)
        of_one, of_every = np.median(rates[:, 1:] / rates[:, :1], axis=0)
        sides = f"{shortest} to {longest}" if shortest < longest else shortest
        print(
            f"| {name} | {sides} | {plain:.1f} | {one:.1f} | {of_one:.2f} "
            f"| {every:.1f} | {of_every:.2f} |",
            flush=True,
        )


def print_warm(root, rounds):
    paths = make_files(root / "warm", N_WARM, 224, 1000)
    size = np.mean([Path(path).stat().st_size for path in paths])
    clips = {n_jobs: featurizer(TINY, cache=root / "cache", n_jobs=n_jobs) for n_jobs in (1, -1)}
    cold_transform(clips[-1], paths)
    time.sleep(SETTLED_NS / 1e9)
    print(f"\n{N_WARM} embeddings in the cache, files of {size / 1000:.0f} kB on average\n")
    print("| found in | n_jobs | images/s |\n| --- | ---: | ---: |")
    for n_jobs, clip in clips.items():
        hashed = [seconds(cold_transform, clip, paths)[0] for _ in range(rounds)]
        known = [seconds(clip.transform, paths)[0] for _ in range(rounds)]
        in_memory = [Path(path).read_bytes() for path in paths[:500]]
        given = [seconds(clip.transform, in_memory)[0] for _ in range(rounds)]
        for where, n_images, times in (
            ("folder, files read and hashed", N_WARM, hashed),
            ("memory, encoded bytes hashed", 500, given),
            ("memory, unchanged files", N_WARM, known),
        ):
            print(f"| {where} | {effective_n_jobs(n_jobs)} | {n_images / np.median(times):,.0f} |")


def print_memory(root, n_images):
    """Peak resident memory of this process after a tenth of the images, and after all."""
    paths = make_files(root / "many", n_images, 224, 320)
    clip = featurizer(TINY, cache=root / "cache-of-many", n_jobs=-1)
    clip.transform(paths[:BATCH_SIZE])
    print("\n| images | seconds | peak resident MB | MB of output |")
    print("| ---: | ---: | ---: | ---: |")
    for part in (0.1, 1):
        n = int(part * n_images)
        duration, rows = seconds(clip.transform, paths[:n])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kB on Linux
        print(f"| {n:,} | {duration:.0f} | {peak:.0f} | {rows.nbytes / 1e6:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each measurement")
    parser.add_argument(
        "--memory", type=int, metavar="N", help="show the peak memory of N images, and only that"
    )
    parser.add_argument("--folder", help="where to make files; a temporary folder by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*random weights")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        if args.memory:
            print_memory(root, args.memory)
        else:
            print_encoding(root, args.rounds)
            print_warm(root, args.rounds)


if __name__ == "__main__":
    main()
