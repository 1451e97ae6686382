"""What precision="auto" changes compared with the exact "fp32": cosines, predictions, accuracy.

    python -m benchmarks.accuracy.precision
    python -m benchmarks.accuracy.precision --features FILE.npz [FILE.npz ...]

The bundled model encodes emoji in each number format. Features from a file come from a model that
is not available, so their rows are rotated in random directions by an angle whose cosine is
--cosine, the smallest found between formats. One classifier is fitted on exact rows and predicts
rows of the other format, and another is fitted on those. Prints a Markdown table with means over
the tasks of protocol.py and 95 % confidence intervals of the differences.
"""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy.evaluation import evaluate, paired_difference, plus_minus
from benchmarks.accuracy.peers import candle
from benchmarks.accuracy.protocol import draw_task, encode_emoji, load_features, unit
from skcandle import CLIPFeaturizer, clear_memory


def turned(features, cosine):
    """The features with each row of ``X`` rotated in a random direction."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=features.X.shape)
    noise -= features.X * np.einsum("ij,ij->i", noise, features.X)[:, None]
    tangent = np.sqrt(1 - cosine**2) / cosine
    return replace(features, X=unit(features.X + tangent * unit(noise)))


def emoji_features(precision):
    clear_memory()
    return encode_emoji(CLIPFeaturizer("emoji-clip", precision=precision))


def compare(name, exact, fast, seeds):
    cosines = np.einsum("ij,ij->i", exact.X.astype(float), fast.X.astype(float))
    changed, rows, mixed_rows, fast_rows = [], [], [], []
    for seed in range(seeds):
        task, fast_task = (draw_task(features, seed) for features in (exact, fast))
        mixed_task = replace(task, X_test=fast_task.X_test)
        score, fast_score = candle(task), candle(fast_task)
        answers = [score(t.X_test).argmax(axis=1) for t in (task, mixed_task)]
        changed.append(np.mean(answers[0] != answers[1]))
        rows.append(evaluate(score, task))
        mixed_rows.append(evaluate(score, mixed_task))
        fast_rows.append(evaluate(fast_score, fast_task))
    cells = [name, f"{cosines.min():.5f}", f"{cosines.mean():.6f}", f"{np.mean(changed):.2%}"]
    cells.append(f"{np.mean([row['joint_harmonic_mean'] for row in rows]):.1%}")
    for other in (mixed_rows, fast_rows):
        difference, half = paired_difference(rows, other, "joint_harmonic_mean")
        cells.append(plus_minus(100 * difference, 100 * half))
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument("--cosine", type=float, default=0.9999)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*random weights")
    print(
        "| rows | least cosine | mean cosine | changed predictions | joint H, exact "
        "| predicted in it, points | fitted in it, points |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    exact = emoji_features("fp32")
    for precision in ("bf16", "fp16"):
        compare(f"emoji, {precision}", exact, emoji_features(precision), args.seeds)
    for path in args.features:
        exact = load_features(path)
        compare(f"{path.stem}, turned", exact, turned(exact, args.cosine), args.seeds)


if __name__ == "__main__":
    main()
