"""The parts of benchmarks.speed.cuda, each of which prints its own table.

    python -m benchmarks.speed.cuda_parts forward
    python -m benchmarks.speed.cuda_parts memory --device cpu --small

The seconds in the description of a part are an estimate for one H100 with 16 cores. They have not
been measured: no part has run on a GPU yet.
"""

import argparse
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.accuracy.peers import FittedCandle
from benchmarks.accuracy.protocol import synthetic_task
from benchmarks.speed.encode import PlainLoop, make_files, transform_unknown
from benchmarks.speed.machine import (
    forward_gflop,
    matmul_gflops,
    resident_mb,
    seconds,
    synchronised,
)
from skcandle import CandleClassifier, CLIPFeaturizer, clear_memory
from skcandle._devices import device_for, exact_matmul, multiplications
from skcandle._images.file_digests import file_digests
from skcandle._images.reading import read_image
from skcandle.clip import _model
from skcandle.datasets import load_emoji
from skcandle.exceptions import BatchSizeWarning

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LEAST_COSINE = {"fp32": 0.999999, "fp16": 0.9996, "bf16": 0.9996}  # as documented
LARGEST_DIFFERENCE = 1e-5  # of logits in float64
TESTS = [
    "tests/classifier/test_array_api.py",
    "tests/classifier/test_devices.py",
    "tests/clip/test_precision.py",
    "tests/test_process.py",
]
EMOJI = "emoji-clip"
BATCH_SIZE = 256
N_WORKERS = 16  # of the DataLoader
FORWARD_SECONDS = 0.5  # of each measurement


def print_head(*names):
    """The first lines of a table; every column but the first holds numbers."""
    print("| " + " | ".join(names) + " |\n| --- " + "| ---: " * (len(names) - 1) + "|")


def print_row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def featurizer(name, device, precision="auto", **options):
    pretrained = "openai" if name == EMOJI else None  # random weights
    return CLIPFeaturizer(name, pretrained, device=device, precision=precision, **options)


def tests(device, is_small):
    """All tests that need a card. 50 s, most of it to start Python, PyTorch and CUDA."""
    # not the cache of pytest, which belongs to the checkout
    options = ["-q", "-rA", "-p", "no:cacheprovider", "-k", "cuda or gpu"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *TESTS])
    return done.returncode == 0


def equality(device, is_small):
    """Rows and answers on the device and on the CPU, and pickles between them. 40 s."""
    ok = True
    emoji = load_emoji()
    chosen = np.linspace(0, len(emoji.images) - 1, 20 if is_small else 1000).astype(int)
    images, labels = [emoji.images[i] for i in chosen], emoji.target[chosen]
    clear_memory()
    exact = featurizer(EMOJI, "cpu", "fp32").transform(images)
    task = synthetic_task(20, 400, 64) if is_small else synthetic_task(100, 1250, 512)
    task = replace(task, X=task.X.astype(float), X_test=task.X_test.astype(float))
    on_cpu = FittedCandle.fit(CandleClassifier(device="cpu"), task)
    answers = CandleClassifier(text_encoder=None, device="cpu").fit(exact[::2], labels[::2])
    print_head("embeddings of emoji-clip", "least cosine", "wanted", "equal answers")
    for precision, least in LEAST_COSINE.items():
        clear_memory()
        rows = featurizer(EMOJI, device, precision).transform(images)
        found = np.einsum("ij,ij->i", rows, exact).min()
        ok &= bool(found >= least)
        same = (answers.predict(rows[1::2]) == answers.predict(exact[1::2])).mean()
        print_row(precision, f"{found:.7f}", least, f"{same:.2%}")
    print()
    print_head("classifier", "largest difference of logits", "equal answers")
    expected = on_cpu(task.X_test)
    on_device = FittedCandle.fit(CandleClassifier(device=device), task)
    cases = {"fitted on the device": on_device(task.X_test)}
    moved = pickle.loads(pickle.dumps(on_cpu.model)).set_params(device=device)
    cases["fitted on the CPU, read on the device"] = FittedCandle(moved, task)(task.X_test)
    on_device.model.set_params(device="auto")
    with tempfile.TemporaryDirectory() as folder:
        cases["fitted on the device, read without a card"] = without_card(on_device, task, folder)
    for name, logits in cases.items():
        difference = np.abs(logits - expected).max()
        ok &= bool(difference <= LARGEST_DIFFERENCE)
        same = (logits.argmax(axis=1) == expected.argmax(axis=1)).mean()
        print_row(name, f"{difference:.1e}", f"{same:.2%}")
    return ok


WITHOUT_CARD = """
import pickle, sys
import numpy as np
model, X, columns = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[2], model.decision_function(X)[:, columns])
"""


def without_card(fitted, task, folder):
    """Logits of a pickled classifier in a process that sees no card."""
    path, result = Path(folder, "model.pkl"), Path(folder, "logits.npy")
    path.write_bytes(pickle.dumps((fitted.model, task.X_test, fitted.columns)))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", WITHOUT_CARD, path, result]
    subprocess.run(command, check=True, env=environment)
    return np.load(result)


def forward_rate(model, n_images, device, limit=FORWARD_SECONDS):
    """Images per second of forward passes alone, with pixels that are on the device."""
    size = np.broadcast_to(model.module.visual.preprocess_cfg["size"], 2).tolist()
    images = torch.rand(n_images, 3, *size, device=device).to(model.dtype)
    encode = synchronised(model.module.encode_image, device)
    n_passes, start = 0, 0.0
    with torch.inference_mode(), exact_matmul(torch.device(device)):
        encode(images)  # chooses algorithms
        start = time.perf_counter()
        while n_passes == 0 or time.perf_counter() - start < limit:
            encode(images)
            n_passes += 1
    return n_passes * n_images / (time.perf_counter() - start)


def forward(device, is_small):
    """Forward passes alone, beside matrix products.

    75 s: six models take 40 s to create, and 30 measurements take half a second to one second.
    """
    names = ["ViT-B-32"] if is_small else ["ViT-B-32", "ViT-B-16", "ViT-L-14"]
    sizes = [1, 2] if is_small else [64, 128, 256, 512, 1024]
    formats = ["bf16"] if is_small else ["fp16", "bf16"]
    n = 256 if is_small else 8192
    products = {f: matmul_gflops(FORMATS[f], device, n, n, n) for f in formats}
    print_head("forward pass", "format", *(f"{size} images" for size in sizes), "share of products")
    for name in names:
        for precision in formats:
            model = featurizer(name, device, precision)._encoder().model
            shape = np.broadcast_to(model.module.visual.preprocess_cfg["size"], 2).tolist()
            work = forward_gflop(model.module, model.dtype, shape)
            rates = [forward_rate(model, size, device) for size in sizes]
            share = max(rates) * work / products[precision]
            print_row(name, precision, *(f"{rate:,.0f}" for rate in rates), f"{share:.0%}")
            clear_memory()
    rates = ", ".join(f"{name} {rate / 1000:,.1f}" for name, rate in products.items())
    print(f"\nImages per second. Products of {n} x {n} matrices, TFLOP/s: {rates}")
    return True


class Preprocessed(torch.utils.data.Dataset):
    """Files for the DataLoader, with the preprocessing of open_clip."""

    def __init__(self, paths, preprocess):
        self.paths, self.preprocess = paths, preprocess

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.preprocess(Image.open(self.paths[i]))


def loader_rate(name, paths, device, n_workers, batch_size):
    """Images per second of the loop in open_clip's README with a DataLoader, under autocast."""
    loop = PlainLoop(name, device)
    loader = torch.utils.data.DataLoader(
        Preprocessed(paths, loop.preprocess),
        batch_size=batch_size,
        num_workers=n_workers,
        pin_memory=device == "cuda",
    )

    def encode():
        rows = []
        with torch.no_grad(), torch.autocast(device, loop.format):
            for batch in loader:
                features = loop.model.encode_image(batch.to(device, non_blocking=True)).float()
                rows.append(features / features.norm(dim=-1, keepdim=True))
        return torch.cat(rows).cpu().numpy()

    with torch.no_grad(), torch.autocast(device, loop.format):
        loop.model.encode_image(loader.dataset[0][None].to(device))  # chooses algorithms
    return len(paths) / seconds(encode)[0]


def decoding_rate(clip, paths, n_threads):
    """Images per second of reading, decoding and resizing alone."""
    preprocess = clip._encoder().preprocess
    file_digests.clear()  # known files are not read

    def pixels(path):
        return preprocess(read_image(path))

    with ThreadPoolExecutor(n_threads) as pool:
        return len(paths) / seconds(lambda: list(pool.map(pixels, paths)))[0]


def print_files(device, names, width, height, n_images, threads, n_pictures, batch_size):
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder) / "files", n_images, width, height, n_pictures=n_pictures)
        print(f"{n_images} JPEG files of {width} x {height}, images per second\n")
        n_workers = min(N_WORKERS, threads[-1])
        loader = f"DataLoader, {n_workers} workers"
        print_head("model", "threads", "ours", "decoding alone", "forward alone", loader)
        for name in names:
            other = loader_rate(name, paths, device, n_workers, batch_size)
            for n_jobs in threads:
                clip = featurizer(name, device, batch_size=batch_size, n_jobs=n_jobs)
                transform_unknown(clip, paths[:batch_size])  # loads the model
                rate = len(paths) / seconds(transform_unknown, clip, paths)[0]
                decoding = decoding_rate(clip, paths, n_jobs)
                alone = forward_rate(clip._encoder().model, min(BATCH_SIZE, n_images), device)
                cells = [f"{value:,.0f}" for value in (rate, decoding, alone, other)]
                print_row(name, n_jobs, *cells)
            clear_memory()


def files(device, is_small):
    """Images per second from files of 640 x 480, and what limits them.

    85 s: 4,096 files take a single thread 7 s to decode, which happens twice, and the four models,
    two of which are open_clip's, take 35 s to create.
    """
    if is_small:
        print_files(device, [EMOJI], 64, 48, 8, [1, 2], 4, 4)
        return True
    print_files(device, ["ViT-B-32"], 640, 480, 4096, [1, 4, 8, 16], 32, BATCH_SIZE)
    print()
    print_files(device, ["ViT-L-14"], 640, 480, 4096, [16], 32, BATCH_SIZE)
    return True


def photographs(device, is_small):
    """Images per second from files of 4032 x 3024, and what limits them.

    75 s: 15 s to make four pictures, and 11 s for a single thread to decode 256 files, twice. The
    batches are small, so that each worker of the DataLoader has one.
    """
    if is_small:
        print_files(device, [EMOJI], 403, 302, 4, [1, 2], 2, 2)
        return True
    print_files(device, ["ViT-B-32"], 4032, 3024, 256, [1, 4, 8, 16], 4, 16)
    return True


def fit(device, is_small):
    """Seconds of a fit and of a prediction on the device and on the CPU, and what "auto" takes.

    100 s: the fits together take a core some 90 s, twice, of which a third runs on the device.
    """
    sizes = [(15, 171, 512), (100, 1250, 512), (1000, 4000, 512), (100, 100_000, 512)]
    n_rows = 20_000
    if is_small:
        sizes, n_rows = [(10, 100, 64), (20, 400, 64)], 1000
    print_head("classes, images, features", "device", "fit", '"auto"', "prediction", '"auto"')
    warm_up = synthetic_task(10, 100, 64)
    for size in sizes:
        task = synthetic_task(*size)
        X = np.resize(task.X_test, (n_rows, size[2]))
        for where in (device, "cpu"):
            FittedCandle.fit(CandleClassifier(device=where), warm_up)(warm_up.X_test)
            fitting, score = seconds(FittedCandle.fit, CandleClassifier(device=where), task)
            predicting = min(seconds(score, X)[0] for _ in range(2))
            of_fit, of_prediction = auto_takes(score, task, X)
            row = f"{fitting:.2f} s", of_fit, f"{predicting:.2f} s", of_prediction
            print_row(", ".join(map(str, size)), where, *row)
    print(f"\nPredictions of {n_rows} rows.")
    return True


def auto_takes(score, task, X):
    """The kinds of device that "auto" chooses for the fit and for the prediction."""
    of_prediction = score.model.set_params(device="auto")._device_for(len(X))
    return [device_for("auto", multiplications(task)).type, of_prediction.type]


def memory(device, is_small):
    """Peak memory, and right rows after the device ran out of memory. 40 s."""
    name = EMOJI if is_small else "ViT-L-14"
    size = (64, 48) if is_small else (640, 480)
    is_cuda = device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder) / "files", 8 if is_small else 1024, *size, n_pictures=8)
        print_head("batch", "peak MB of the device" if is_cuda else "peak MB of the process")
        for batch_size in [2, 8] if is_small else [64, 256, 1024]:
            clip = featurizer(name, device, batch_size=batch_size)
            if is_cuda:
                torch.cuda.reset_peak_memory_stats()
            rows = transform_unknown(clip, paths)
            used = torch.cuda.max_memory_allocated() / 1e6 if is_cuda else resident_mb(peak=True)
            print_row(batch_size, f"{used:,.0f}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            limit_memory(device, most=3)
            again = transform_unknown(clip, paths)
        steps = [str(w.message) for w in caught if issubclass(w.category, BatchSizeWarning)]
        found = np.einsum("ij,ij->i", rows, again).min()
        how = "by a limit on the process" if is_cuda else "simulated, since a CPU has no such limit"
        print(f"\nOut of memory, {how}: {len(steps)} smaller batches, least cosine {found:.6f}")
        print("\n".join(f"* {step}" for step in steps))
        return bool(steps) and bool(found > 0.9999)


def limit_memory(device, most):
    """Leave too little memory for the batch: on the card truly, on a CPU beyond `most` images."""
    if device == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = torch.cuda.memory_reserved() + 500e6
        torch.cuda.set_per_process_memory_fraction(allowed / total)
        return
    encode = _model.LoadedModel.encode_images

    def limited(self, pixels):
        if len(pixels) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return encode(self, pixels)

    _model.LoadedModel.encode_images = limited


PARTS = {
    part.__name__: part for part in (tests, equality, forward, files, photographs, fit, memory)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small sizes, for a rehearsal")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", ".*has random weights")
    logging.getLogger().setLevel(logging.ERROR)  # open_clip says the same
    return 0 if PARTS[args.part](args.device, args.small) else 1


if __name__ == "__main__":
    sys.exit(main())
