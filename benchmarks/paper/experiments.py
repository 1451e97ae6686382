"""The experiments of the paper on its fifteen data sets, in one command.

    python -m benchmarks.paper.experiments --data ROOT --setting long-tail

No data set is downloaded. benchmarks/README.rst describes the content of ROOT and the protocol.
"""

import argparse
import difflib
import sys
from pathlib import Path

from tqdm.auto import tqdm

from benchmarks.accuracy import peers
from benchmarks.paper.datasets import DATASETS, TARGETS, VARIANTS
from benchmarks.paper.official import InputError
from benchmarks.paper.results import Results
from benchmarks.paper.splits import read_images
from benchmarks.paper.tasks import (
    MEASURED,
    OF_IMAGENET,
    SETTINGS,
    WITH_NEW_CLASSES,
    EncodedSet,
    cross_task,
    domain_task,
    draw_training,
    evaluate_among,
    evaluate_base_new,
    n_base_classes,
    own_task,
    scores_of,
)
from benchmarks.speed.machine import seconds
from skcandle import CLIPFeaturizer

METHODS = {method.__name__: method for method in peers.WITH_TEXT}
ALIASES = {"paper": "published_candle"}
SOURCE = "ImageNet"


def names_in(setting):
    """The data sets of a setting, in the order of the table."""
    others = VARIANTS if setting == "domain" else TARGETS
    return [SOURCE, *others]


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="settings: " + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items()),
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="folder of all data sets"
    )
    parser.add_argument("--setting", required=True, choices=SETTINGS)
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        help=f"default: all data sets of the setting; choose from {', '.join(DATASETS)}",
    )
    parser.add_argument("--model", default="ViT-B-16-quickgelu", help="of CLIPFeaturizer")
    parser.add_argument(
        "--pretrained", default="openai", help="of CLIPFeaturizer, for names of open_clip"
    )
    parser.add_argument(
        "--shots", type=int, default=16, help="training images per class, without a long tail"
    )
    parser.add_argument(
        "--ratio",
        type=float,
        help="imbalance ratio of the tail, in (0, 1] (default: 0.02, and 0.01 for ImageNet)",
    )
    parser.add_argument(
        "--balanced",
        action="store_true",
        help="cross-dataset and domain: use --shots images of each ImageNet class, not a tail",
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of draws of training images")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["candle,paper,zero-shot"],
        metavar="NAME",
        help=f"of {', '.join(METHODS)}; paper is published_candle",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="file of results, continued if it exists, with a Markdown table beside it (default: "
        "paper-SETTING.json in the current folder)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="folder of embeddings, with one sub-folder per data set (default: beside --out)",
    )
    args = parser.parse_args(argv)
    if not args.data.is_dir():
        parser.error(f"--data is {args.data}, which is not a folder. See benchmarks/README.rst.")
    args.out = args.out or Path(f"paper-{args.setting}.json")
    if args.out.suffix != ".json":
        parser.error(f"--out is {args.out}, but must be the name of a .json file.")
    args.cache = args.cache or args.out.with_suffix(".embeddings")
    for name in ("shots", "seeds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}, but must be at least 1.")
    if args.ratio is not None and not 0 < args.ratio <= 1:
        parser.error(f"--ratio is {args.ratio}, but must be above 0 and at most 1.")
    return args


def choose(words, known, kind, aliases=None):
    """Names among ``known`` from words of the command line, which may be separated by commas."""
    names = [word for text in words for word in text.split(",") if word]
    chosen = [(aliases or {}).get(name, name) for name in names]
    for name in chosen:
        if name not in known:
            lower = {other.lower(): other for other in known}
            near = difflib.get_close_matches(name.lower(), lower)
            hint = f"Did you mean {' or '.join(lower[n] for n in near)}? " if near else ""
            raise InputError(f"Unknown {kind} {name!r}. {hint}Choose from {', '.join(known)}.")
    return list(dict.fromkeys(chosen))


def choose_datasets(args, table):
    """The requested data sets, all of which must belong to the setting."""
    possible = [name for name in names_in(args.setting) if name in table]
    if not args.datasets:
        return possible
    names = choose(args.datasets, table, "data set")
    for name in names:
        if name not in possible:
            raise InputError(
                f"The data set {name} does not belong to the setting {args.setting}, which uses "
                f"{', '.join(possible)}."
            )
    return sorted(names, key=possible.index)


def choose_methods(args):
    return choose(
        [text.replace("-", "_") for text in args.methods], METHODS, "method", aliases=ALIASES
    )


def read_all(names, table, root):
    """Images of all data sets; if some are missing, one error with a sentence for each."""
    read, errors = {}, []
    for name in tqdm(names, desc="reading lists of images", leave=False):
        try:
            read[name] = read_images(table[name], root)
        except InputError as error:
            errors.append(str(error))
    if errors:
        raise InputError("\n".join(errors))
    return read


class Experiment:
    """One run of the command: data sets x methods x seeds in one setting."""

    def __init__(self, args, table):
        self.args, self.setting = args, args.setting
        self.names = choose_datasets(args, table)
        self.methods = choose_methods(args)
        self.seeds = range(1, args.seeds + 1)
        columns = MEASURED[self.setting in WITH_NEW_CLASSES]
        self.results = Results(args.out, self._setup(), columns)
        needed = dict.fromkeys(([SOURCE] if self.setting in OF_IMAGENET else []) + self.names)
        self.images = read_all(needed, table, args.data)
        self.positions = {
            name: self._draw(images) for name, images in self.images.items() if len(images.train)
        }
        for name in self.names:
            self.results.check_split(name, self.images[name].split)
        self.encoded, self.fitted = {}, {}

    @property
    def of_shots(self):
        """Whether every class has the same number of images, and there is no long tail."""
        if self.setting in OF_IMAGENET:
            return self.args.balanced
        return self.setting != "long-tail"

    def _setup(self):
        args = self.args
        setup = {"setting": self.setting, "model": args.model, "pretrained": args.pretrained}
        if self.of_shots:
            setup["shots"] = args.shots
        else:
            setup["ratio"] = args.ratio or "as released"
        if self.setting in OF_IMAGENET:
            setup["source"] = SOURCE
        return setup

    def _draw(self, images):
        """Positions of the training images for each seed, if the data set is used for training."""
        if self.setting in OF_IMAGENET and images.data.name != SOURCE:
            return {}
        amount = {"ratio": self.args.ratio or images.data.ratio}
        if self.of_shots:
            amount = {"shots": self.args.shots}
        n_base = n_base_classes(self.setting, len(images.ids))
        return {seed: draw_training(images, n_base, seed, **amount) for seed in self.seeds}

    def run(self):
        """Run the unfinished cells, and return the results."""
        cells = [
            (name, method, seed)
            for name in self.names
            for method in self.methods
            for seed in self.seeds
        ]
        missing = [cell for cell in cells if cell not in self.results.cells]
        self.results.write()
        with tqdm(total=len(cells), initial=len(cells) - len(missing), desc="cells") as bar:
            for cell in missing:
                bar.set_postfix_str(" ".join(map(str, cell)))
                self.results.add(cell, self.measure(*cell))
                bar.update()
        return self.results

    def measure(self, name, method, seed):
        """Measured quantities of one cell."""
        if self.setting == "domain" and name != SOURCE:
            task, columns = domain_task(self.encode(SOURCE), self.encode(name), seed)
        elif self.setting == "cross-dataset" and name != SOURCE:
            task = cross_task(self.encode(SOURCE), self.encode(name), seed)
            columns = slice(task.n_base, None)
        else:
            encoded = self.encode(name)
            n_base = n_base_classes(self.setting, len(encoded.T))
            task, columns = own_task(encoded, n_base, seed), slice(None)
        fit_seconds, score = self.fit(method, task, seed)
        scores = scores_of(score, task.X_test)
        if self.setting in WITH_NEW_CLASSES:
            measured = evaluate_base_new(scores, task.y_test, task.n_base)
        else:
            measured = evaluate_among(scores, task.y_test, columns)
        return measured | {"seconds": fit_seconds}

    def fit(self, method, task, seed):
        """Seconds and score function of a fit, shared by all data sets in the domain setting."""
        if self.setting != "domain":
            return seconds(METHODS[method], task)
        if (method, seed) not in self.fitted:
            self.fitted[method, seed] = seconds(METHODS[method], task)
        return self.fitted[method, seed]

    def encode(self, name):
        """Embeddings of a data set; only one set is in memory at a time, besides the source."""
        if name not in self.encoded:
            self.encoded = {key: self.encoded[key] for key in self.encoded if key == SOURCE}
            tqdm.write(f"{name}: embeddings", file=sys.stderr)
            featurizer = CLIPFeaturizer(
                self.args.model,
                self.args.pretrained,
                cache=self.args.cache / name,
                verbose=1,
            )
            self.encoded[name] = EncodedSet(
                self.images[name], self.positions.get(name, {}), featurizer
            )
        return self.encoded[name]


def main(argv=None, table=DATASETS):
    """Run the command; tests pass a `table` of other data sets."""
    args = parse_arguments(argv)
    try:
        results = Experiment(args, table).run()
    except InputError as error:
        raise SystemExit(str(error)) from error
    print(results.markdown())
    print(f"Written to {args.out} and {args.out.with_suffix('.md')}.")
    return results


if __name__ == "__main__":
    main()
