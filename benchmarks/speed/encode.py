"""Images per second of CLIPFeaturizer compared with other ways to compute CLIP embeddings.

    python -m benchmarks.speed.encode
    python -m benchmarks.speed.encode --cases ViT-B-32 --rounds 5
    python -m benchmarks.speed.encode --warm
    python -m benchmarks.speed.encode --memory

The photographs are synthetic and the weights random. All methods use the same files, batch size and
process, and take turns, so that other work on the machine affects them equally. Ratios are medians
over the rounds. ``pip install transformers sentence-transformers`` adds these two methods. --warm
times embeddings that are in the cache, and --memory shows the peak memory of each method in a
separate process. Prints Markdown tables.
"""

import argparse
import io
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import open_clip
import torch
from joblib import effective_n_jobs
from PIL import Image

from benchmarks.speed.encode_peers import sentence_transformers_peer, transformers_peer
from benchmarks.speed.machine import (
    forward_gflop,
    layer_gflops,
    matmul_gflops,
    processor,
    resident_mb,
    seconds,
    synchronised,
)
from skcandle import CLIPFeaturizer, clear_memory
from skcandle._devices import cpu_has_bf16
from skcandle._images.file_digests import SETTLED_NS, file_digests
from skcandle.clip._cache.memory import memory_cache
from skcandle.clip._checkpoint import find_checkpoint, open_clip_name

BATCH_SIZE = 64
BUNDLED = "emoji-clip"
CASES = [  # model, width, height, format, images
    ("ViT-B-32", 224, 224, "JPEG", 128),
    ("ViT-B-32", 640, 480, "JPEG", 128),
    ("ViT-B-32", 640, 480, "PNG", 128),
    ("ViT-B-32", 1600, 1200, "JPEG", 128),
    ("ViT-B-32", 4032, 3024, "JPEG", 64),
    ("ViT-B-16", 640, 480, "JPEG", 64),
    ("ViT-B-16", 4032, 3024, "JPEG", 64),
    ("ViT-L-14", 640, 480, "JPEG", 8),
    ("RN50", 640, 480, "JPEG", 128),
    (BUNDLED, 640, 480, "JPEG", 512),
    (BUNDLED, 4032, 3024, "JPEG", 64),
]
N_WARM = 1024


def photograph(rng, width, height, form="JPEG"):
    """An image file with structure at all scales and camera noise.

    As a JPEG it takes a quarter of a byte per pixel, as photographs do.
    """
    pixels = np.zeros((height, width, 3))
    for cells in (3, 12, 48, 192):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((width, height))) / cells**0.5
    pixels *= 255 / pixels.max()
    pixels += rng.normal(0, 6, (height, width, 1))
    buffer = io.BytesIO()
    options = {"quality": 85} if form == "JPEG" else {"compress_level": 1}
    Image.fromarray(np.uint8(pixels.clip(0, 255))).save(buffer, form, **options)
    return buffer.getvalue()


def make_files(folder, n_images, width, height, form="JPEG", n_pictures=32):
    """Paths of distinct files, which beyond ``n_pictures`` differ in bytes no decoder reads."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = [photograph(rng, width, height, form) for _ in range(min(n_images, n_pictures))]
    paths = []
    for i in range(n_images):
        path = folder / f"{i:06d}.{form.lower()}"
        path.write_bytes(pictures[i % n_pictures] + i.to_bytes(4, "little"))
        paths.append(str(path))
    return paths


class PlainLoop:
    """The loop from open_clip's documentation, in float32 or under autocast."""

    def __init__(self, name, device, autocast=False):
        torch.manual_seed(0)  # the seed of the random weights of the featurizer
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(
            open_clip_name(find_checkpoint(name, None)), device=device
        )
        self.model.eval()
        self.device = device
        self.format = torch.float16 if device == "cuda" else torch.bfloat16
        self.autocast = autocast

    def __call__(self, paths):
        rows = []
        scope = torch.autocast(self.device, self.format) if self.autocast else nullcontext()
        with torch.no_grad(), scope:
            for start in range(0, len(paths), BATCH_SIZE):
                files = paths[start : start + BATCH_SIZE]
                batch = torch.stack([self.preprocess(Image.open(path)) for path in files])
                features = self.model.encode_image(batch.to(self.device)).float()
                rows.append(features / features.norm(dim=-1, keepdim=True))
        return torch.cat(rows).cpu().numpy()


class Ours:
    """CLIPFeaturizer with an empty cache."""

    def __init__(self, name, device, precision):
        self.clip = CLIPFeaturizer(
            name, None, batch_size=BATCH_SIZE, device=device, precision=precision
        )

    def __call__(self, paths):
        return transform_unknown(self.clip, paths)


def transform_unknown(clip, paths):
    """Rows of files that are not in the memory cache, nor their digests."""
    memory_cache.clear()
    file_digests.clear()
    return clip.transform(paths)


SIDES = {
    "loop": PlainLoop,
    "autocast": lambda name, device: PlainLoop(name, device, autocast=True),
    "transformers": lambda name, device: transformers_peer(name, device, BATCH_SIZE),
    "sentence-tr.": lambda name, device: sentence_transformers_peer(name, device, BATCH_SIZE),
    "ours, fp32": lambda name, device: Ours(name, device, "fp32"),
    "ours": lambda name, device: Ours(name, device, "auto"),
}


def compare(name, paths, device, rounds):
    """Images per second of each method in each round, and the rows of one batch."""
    sides = {side: make(name, device) for side, make in SIDES.items()}
    sides = {side: encode for side, encode in sides.items() if encode is not None}
    rows = {side: encode(paths[:BATCH_SIZE]) for side, encode in sides.items()}  # loads, warms up
    rates = {side: [] for side in sides}
    for _ in range(rounds):
        for side, encode in sides.items():
            rates[side].append(len(paths) / seconds(encode, paths)[0])
    return {side: np.array(values) for side, values in rates.items()}, rows


def print_encoding(root, cases, device, rounds):
    print("| model | images | " + " | ".join(SIDES) + " | / loop | / best other | least cosine |")
    print("| --- | --- " + "| ---: " * (len(SIDES) + 3) + "|")
    for i, (name, width, height, form, n_images) in enumerate(cases):
        paths = make_files(root / f"case{i}", n_images, width, height, form)
        rates, rows = compare(name, paths, device, rounds)
        others = [values for side, values in rates.items() if not side.startswith("ours")]
        best = max(others, key=np.median)
        cells = [name, f"{width} x {height} {form}"]
        cells += [f"{np.median(rates[side]):.1f}" if side in rates else "" for side in SIDES]
        cells += [f"{np.median(rates['ours'] / other):.2f}" for other in (rates["loop"], best)]
        cells.append(f"{np.einsum('ij,ij->i', rows['loop'], rows['ours']).min():.5f}")
        print("| " + " | ".join(cells) + " |", flush=True)
        clear_memory()


def print_machine(names, device):
    """Rates of matrix products, and the share of them that forward passes reach."""
    n_threads = torch.get_num_threads()
    has = "has a" if cpu_has_bf16() else "has no"
    print(f"{processor(device)}, {n_threads} threads of PyTorch; the CPU {has} bf16 unit\n")
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    # small enough for CPUs that emulate fp16
    n = 2048 if device == "cuda" else 768
    rates = {key: matmul_gflops(dtype, device, n, n, n) for key, dtype in formats.items()}
    print(f"products of {n} x {n} matrices, GFLOP/s: ", end="")
    print(", ".join(f"{key} {rate:,.0f}" for key, rate in rates.items()), "\n")
    print("| forward pass | format | images/s | GFLOP/s | products of its sizes, GFLOP/s | share |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in names:
        clips = [CLIPFeaturizer(name, None, device=device, precision=p) for p in ("fp32", "auto")]
        for precision, encoder in {e.precision: e for e in (c._encoder() for c in clips)}.items():
            model = encoder.model
            size = np.broadcast_to(model.module.visual.preprocess_cfg["size"], 2).tolist()
            n = 32
            pixels = torch.randint(0, 256, (n, *size, 3), dtype=torch.uint8)
            encode = synchronised(model.encode_images, device)
            duration = min(seconds(encode, pixels)[0] for _ in range(3))
            gflops = n * forward_gflop(model.module, model.dtype, size) / duration
            own = layer_gflops(model.module, model.dtype, device)
            share = f"{own:,.0f} | {gflops / own:.0%}" if own else "|"
            rate = n / duration
            print(f"| {name} | {precision} | {rate:,.1f} | {gflops:,.0f} | {share} |", flush=True)
            clear_memory()


def print_warm(root, rounds):
    paths = make_files(root / "warm", N_WARM, 500, 400)
    size = np.mean([Path(path).stat().st_size for path in paths])

    def featurizer(n_jobs):
        return CLIPFeaturizer(BUNDLED, device="cpu", cache=root / "cache", n_jobs=n_jobs)

    transform_unknown(featurizer(None), paths)
    time.sleep(SETTLED_NS / 1e9)
    print(f"{N_WARM} embeddings in the cache, files of {size / 1000:.0f} kB on average\n")
    print("| found in | n_jobs | images/s |\n| --- | ---: | ---: |")
    in_memory = [Path(path).read_bytes() for path in paths[:500]]
    for n_jobs in (1, None):
        clip = featurizer(n_jobs)
        threads = effective_n_jobs(-1 if n_jobs is None else n_jobs)
        hashed = [seconds(transform_unknown, clip, paths)[0] for _ in range(rounds)]
        known = [seconds(clip.transform, paths)[0] for _ in range(rounds)]
        given = [seconds(clip.transform, in_memory)[0] for _ in range(rounds)]
        for where, n_images, times in (
            ("folder, files read and hashed", N_WARM, hashed),
            ("memory, encoded bytes hashed", 500, given),
            ("memory, unchanged files", N_WARM, known),
        ):
            print(f"| {where} | {threads} | {n_images / np.median(times):,.0f} |")


def print_memory(root, name="ViT-B-32", n_images=256):
    """Peak resident memory of each method, and of imports alone, each in a separate process."""
    make_files(root / "memory", n_images, 1600, 1200)
    print(f"{n_images} JPEGs of 1600 x 1200, {name}\n\n| side | peak resident MB |\n| --- | ---: |")
    for side in ["imports alone", *SIDES]:
        command = [
            sys.executable,
            "-m",
            __spec__.name,
            "--folder",
            root / "memory",
            "--peak-of",
            side,
            name,
        ]
        peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"| {side} | {peak.split()[-1]} |", flush=True)


def print_peak(folder, side, name):
    if side != "imports alone":
        encode = SIDES[side](name, "cpu")
        if encode is None:
            print("-")
            return
        encode(sorted(str(path) for path in Path(folder).iterdir()))
    print(f"{resident_mb(peak=True):.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="repetitions of each measurement")
    parser.add_argument(
        "--cases", default="", metavar="TEXT", help="only cases whose name contains this"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--warm", action="store_true", help="time only the cache")
    parser.add_argument("--memory", action="store_true", help="show only peak memory")
    parser.add_argument("--folder", help="where to create files (default: a temporary folder)")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*random weights")
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns about random weights
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # of transformers
    if args.peak_of:
        print_peak(args.folder, *args.peak_of)
        return
    cases = [case for case in CASES if args.cases in "{} {} x {} {}".format(*case)]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        if args.warm:
            print_warm(root, args.rounds)
        elif args.memory:
            print_memory(root)
        else:
            print_machine(dict.fromkeys(name for name, *_ in cases), args.device)
            print()
            print_encoding(root, cases, args.device, args.rounds)


if __name__ == "__main__":
    main()
