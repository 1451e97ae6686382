"""The cost of CandleClassifier and of the published training loop: time, memory, accuracy.

    python -m benchmarks.speed.fit
    python -m benchmarks.speed.fit --quick
    python -m benchmarks.speed.fit --plot costs.png
    python -m benchmarks.speed.fit --busy 2

Features are synthetic (protocol.synthetic_task). Each method runs in a separate process, one after
the other, so that peak memory is measured per method. Prints one Markdown table. Where other
programs run, measure with --processor-time and OMP_NUM_THREADS=1.

With --busy, the table compares one thread for small products, as the library has it, with several
threads for all, beside so many processes that keep a core busy.
"""

import argparse
import json
import subprocess
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

import skcandle._devices
from benchmarks.accuracy.evaluation import evaluate
from benchmarks.accuracy.peers import FittedCandle, candle
from benchmarks.accuracy.protocol import synthetic_task
from benchmarks.speed.machine import matmul_gflops, resident_mb, seconds
from benchmarks.speed.published_loop import EPOCHS, published_loop
from skcandle import CandleClassifier

SIZES = [(100, 1250, 512), (100, 1250, 768), (1000, 4000, 512), (1000, 4000, 768)]
# One of the three grows while the other two are fixed.
CURVES = {
    "classes with images": [(k, 4000, 512) for k in (50, 100, 200, 500, 1000)],
    "training images": [(100, n, 512) for n in (300, 600, 1250, 2500, 5000)],
    "features": [(100, 1250, d) for d in (128, 256, 512, 768, 1024)],
}
UNITS = ("classes", "images", "features")
METHODS = ["published loop", "CandleClassifier"]
ACCURACIES = ("base", "new", "harmonic_mean", "joint_harmonic_mean")
QUICK_EPOCHS, CURVE_EPOCHS = 5, 1
N_TEST = 1000
BUSY_SIZES = [(15, 171, 128), (100, 1250, 512)]
ALL_THREADS = "CandleClassifier, several threads"
WITHOUT_TERM = "CandleClassifier, single_image_weight=0"


def measure(method, size, epochs, processor_time=False):
    """All measured quantities of one method on one task, in this process."""
    is_loop = method == "published loop"
    clock = time.process_time if processor_time else time.perf_counter
    if method == ALL_THREADS:
        skcandle._devices.SMALL_PRODUCT = 0

    def fit(task, epochs=epochs):
        if is_loop:
            return published_loop(task, epochs)
        if method == WITHOUT_TERM:
            return FittedCandle.fit(CandleClassifier(single_image_weight=0), task)
        return candle(task)

    task = synthetic_task(*size, n_test=N_TEST)
    warm_up = synthetic_task(10, 100, 64)  # imports and thread pools are not measured
    fit(warm_up, 1)(warm_up.X_test)
    before = resident_mb()
    fit_seconds, score = seconds(fit, task, clock=clock)
    fit_mb = resident_mb(peak=True) - before
    predict = min(seconds(score, task.X_test, clock=clock)[0] for _ in range(3))
    row = {
        "fit": fit_seconds * (EPOCHS / epochs if is_loop else 1),
        "predict": predict,
        "fit_mb": fit_mb,
        "peak_mb": resident_mb(peak=True) - before,
    }
    if not is_loop or epochs == EPOCHS:
        report = evaluate(score, task)
        row |= {key: report[key] for key in ACCURACIES}
    rate = 1e9 * matmul_gflops(torch.float32, "cpu", 4096, size[2], size[2], 20, clock)
    row["gflops"] = rate / 1e9
    if is_loop:
        operations = EPOCHS * torch_operations(fit, task, 1)
    else:
        operations = torch_operations(fit, task) + closed_form_operations(task)
    return row | {"share": operations / row["fit"] / rate}


def torch_operations(function, *args):
    """Operations in matrix products of torch during a call."""
    with FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


def closed_form_operations(task):
    """Operations in the products that one closed form on all images needs, from its equations.

    Scatter and whitened rows, whitened prototypes, similarities to texts and prototypes, and
    Cholesky's factor and inverse. NumPy computes these, and no counter sees them.
    """
    (n, d), k = task.X.shape, task.n_classes
    return 4 * n * d * d + 2 * k * d * d + 4 * n * k * d + 2 * d**3 / 3


def in_a_process(*arguments):
    """Result of :func:`measure` in a fresh process."""
    arguments = json.dumps(arguments)
    command = [sys.executable, "-m", __spec__.name, "--measure", arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def print_table(sizes, epochs, processor_time):
    """One row per method and size, and their ratios."""
    part = f" ({epochs} of {EPOCHS} epochs timed, x{EPOCHS // epochs})" if epochs < EPOCHS else ""
    print(
        "| classes | images | features | method | fit s | predict ms | MB at fit | MB at most "
        "| base | new | H | joint H | share of GEMM |"
    )
    print("| ---: | ---: | ---: | --- |" + " ---: |" * 9)
    for size in sizes:
        rows = {}
        for method in [*METHODS, WITHOUT_TERM]:
            row = rows[method] = in_a_process(method, size, epochs, processor_time)
            note = part if method == "published loop" else ""
            accuracies = [f"{row[k]:.1%}" if k in row else "-" for k in ACCURACIES]
            cells = [
                *size, method + note, f"{row['fit']:.2f}", f"{1000 * row['predict']:.0f}",
                f"{row['fit_mb']:.0f}", f"{row['peak_mb']:.0f}", *accuracies,
                f"{row['share']:.0%} of {row['gflops']:.0f} GFLOP/s",
            ]  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        loop, candle = (rows[method] for method in METHODS)
        ratios = [f"{loop[k] / candle[k]:.1f} x" for k in ("fit", "predict", "fit_mb", "peak_mb")]
        gains = [f"{100 * (candle[k] - loop[k]):+.1f}" if k in loop else "-" for k in ACCURACIES]
        cells = [*size, "**loop / classifier; gain**", *ratios, *gains, ""]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_threads(sizes, n_busy):
    """Seconds of a fit with one thread for small products, and with several for all."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_busy)]
    try:
        print(
            f"| classes | images | features | fit s, {n_busy} busy neighbours | several threads |"
        )
        print("| ---: | ---: | ---: | ---: | ---: |")
        for size in sizes:
            fits = [in_a_process(m, size, EPOCHS)["fit"] for m in (METHODS[1], ALL_THREADS)]
            print(
                "|", " | ".join([*map(str, size), *(f"{fit:.2f}" for fit in fits)]), "|", flush=True
            )
    finally:
        for hog in hogs:
            hog.kill()


def plot_curves(path, curves):
    """Fit, prediction and memory over each size, both methods in each panel."""
    import matplotlib.pyplot as plt

    quantities = {
        "fit": "fit, seconds",
        "predict": f"predict {N_TEST} rows, seconds",
        "peak_mb": "memory at most, MB",
    }
    figure, grid = plt.subplots(
        len(quantities), len(curves), figsize=(10, 8), layout="constrained", sharey="row"
    )
    for column, (name, sizes) in enumerate(curves.items()):
        varied = [size[column] for size in sizes]
        for method, style in zip(METHODS, ("o--", "s-"), strict=True):
            rows = [in_a_process(method, size, CURVE_EPOCHS) for size in sizes]
            for axes, key in zip(grid[:, column], quantities, strict=True):
                axes.loglog(varied, [max(row[key], 1e-3) for row in rows], style, label=method)
        for axes in grid[:, column]:
            axes.set_xticks(varied, map(str, varied))
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        others = [
            f"{v} {w}" for i, (v, w) in enumerate(zip(sizes[0], UNITS, strict=True)) if i != column
        ]
        grid[0, column].set_title(" and ".join(others), fontsize=10)
        grid[-1, column].set_xlabel(name)
    for axes, label in zip(grid[:, 0], quantities.values(), strict=True):
        axes.set_ylabel(label)
    grid[0, 0].legend()
    figure.suptitle(
        f"published loop: {CURVE_EPOCHS} of {EPOCHS} epochs timed, x{EPOCHS // CURVE_EPOCHS}",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"time {QUICK_EPOCHS} epochs of the loop and scale up; no accuracies of the loop",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="K,N,D",
        help="classes with images, training images and features, as in 100,1250,512",
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure time of the processor, not of a clock",
    )
    parser.add_argument("--plot", metavar="FILE", help="only draw cost curves")
    parser.add_argument("--busy", type=int, metavar="N", help="busy neighbours; see above")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
    elif args.busy is not None:
        print_threads(BUSY_SIZES, args.busy)
    elif args.plot:
        step = 2 if args.quick else 1
        plot_curves(args.plot, {name: sizes[::step] for name, sizes in CURVES.items()})
    else:
        sizes = [tuple(map(int, size.split(","))) for size in args.sizes or []]
        epochs = QUICK_EPOCHS if args.quick else EPOCHS
        print_table(sizes or SIZES, epochs, args.processor_time)


if __name__ == "__main__":
    main()
