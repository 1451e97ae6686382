"""Accuracy of CandleClassifier and other methods on frozen features.

    python -m benchmarks.accuracy.compare --features FILE.npz --seeds 10 --ratio 0.02

prints Markdown tables. benchmarks/README.rst describes the tasks and the format of the file.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import sklearn

import skcandle
from benchmarks.accuracy import peers
from benchmarks.accuracy.ablation import ABLATION
from benchmarks.accuracy.evaluation import run, tables
from benchmarks.accuracy.protocol import (
    PROMPT,
    draw_task,
    encode_emoji,
    encode_folder,
    load_features,
)
from skcandle import CLIPFeaturizer


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", type=Path, metavar="FILE.npz")
    source.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder with one sub-folder of images per class",
    )
    source.add_argument("--emoji", action="store_true", help="the images of load_emoji()")
    parser.add_argument(
        "--model",
        default="emoji-clip",
        help="model_name of CLIPFeaturizer, for --images and --emoji",
    )
    parser.add_argument("--pretrained", help="pretrained of CLIPFeaturizer")
    parser.add_argument(
        "--template",
        help='prompt template: for a file, one of its templates (default: the first) or "mean" for '
        f'the average of all; for --images and --emoji, the default is "{PROMPT}"',
    )
    parser.add_argument(
        "--no-text",
        action="store_true",
        help="use no texts: all classes have images, and there are fewer methods",
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument("--ratio", type=float, default=0.02, help="imbalance ratio in (0, 1]")
    parser.add_argument("--balanced", action="store_true", help="the same as --ratio 1")
    parser.add_argument(
        "--shots",
        type=int,
        metavar="N",
        help="N images per base class, short for --balanced --max-shots N",
    )
    parser.add_argument("--max-shots", type=int, default=100, help="images of the largest class")
    parser.add_argument(
        "--pool",
        type=int,
        default=30,
        help="training images of each class to draw from; all others are test images",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=", ".join(method.__name__ for method in peers.WITH_TEXT),
    )
    parser.add_argument(
        "--offset",
        action="store_true",
        help="add every other method with an offset learned from pseudo-new classes",
    )
    parser.add_argument(
        "--ablation", action="store_true", help="switch off parts of CandleClassifier in turn"
    )
    parser.add_argument(
        "--reference", default="candle", help="reference method of the paired differences"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write JSON and Markdown")
    return parser.parse_args()


def read_features(args):
    """Name and features of what the command line asks for."""
    if args.features:
        template = args.template or "first"
        return args.features.stem, load_features(args.features, template, text=not args.no_text)
    featurizer = CLIPFeaturizer(model_name=args.model, pretrained=args.pretrained)
    template = args.template or PROMPT
    if args.emoji:
        name, features = f"emoji_{args.model}", encode_emoji(featurizer, template)
    else:
        name, features = (
            f"{args.images.resolve().name}_{args.model}",
            encode_folder(args.images, featurizer, template),
        )
    return name.replace("/", "-"), replace(features, T=None) if args.no_text else features


def main():
    args = parse_arguments()
    ratio = 1.0 if args.balanced or args.shots else args.ratio
    max_shots = args.shots or args.max_shots
    known = peers.WITHOUT_TEXT if args.no_text else peers.WITH_TEXT
    known = {method.__name__: method for method in (ABLATION if args.ablation else known)}
    unknown = set(args.methods or []) - set(known)
    if unknown:
        raise SystemExit(f"Unknown methods {sorted(unknown)}; choose from {', '.join(known)}.")
    methods = [known[name] for name in args.methods or known]
    if args.offset:
        calibrated = {"closed_form_calibrated", "candle"}
        methods += [peers.with_offset(m) for m in methods if m.__name__ not in calibrated]

    name, features = read_features(args)
    settings = {"ratio": ratio, "max_shots": max_shots, "n_pool": args.pool}
    tasks = [draw_task(features, seed, **settings) for seed in range(args.seeds)]
    rows = run(tasks, methods)

    title = (
        f"{name}: {len(features.names)} classes, {tasks[0].n_base} with images, "
        f"{np.mean([len(task.y) for task in tasks]):.0f} training images of {features.X.shape[1]} "
        f"features, imbalance ratio {ratio:g}, at most {max_shots} images per class, "
        f"means of {args.seeds} random tasks, accuracies and ECE in percent"
    )
    text = f"{title}\n\n{tables(rows, args.reference)}"
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        stem = f"{name}_ratio{ratio:g}_max{max_shots}"
        stem += "_notext" * args.no_text + "_ablation" * args.ablation
        (args.out / f"{stem}.md").write_text(text, encoding="utf-8")
        record = {
            "features": name, "template": args.template, "text": not args.no_text,
            "seeds": args.seeds, **settings,
            "versions": {m.__name__: m.__version__ for m in (skcandle, sklearn, np)},
            "rows": rows,
        }  # fmt: skip
        (args.out / f"{stem}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
