"""Fit, search, predict and encode at random for a while, with faults, and check every result.

    python tools/soak.py --minutes 30 --seed 0

The methods of `Soak` that begin with ``step_`` do normal work. Those that begin with ``fault_`` do
work during which something goes wrong: broken images, damaged, locked or missing files, a full
disk, Ctrl-C, or killed processes. Each method runs once, and then methods are drawn at random. All
results must equal those of a clean run at the start. At the end, the process may use only slightly
more memory, files, threads and processes than after a tenth of the time.

A step depends only on the seed and its number, which error messages contain: ``--only N`` repeats
it.
"""

import argparse
import collections
import copy
import ctypes
import gc
import itertools
import os
import pickle
import platform
import random
import re
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import skops.io
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    clear_memory,
)
from skcandle.datasets import load_emoji
from skcandle.exceptions import CacheWarning, ImageReadError, UnreadableImageWarning
from skcandle.scale_out import encode_dataset, predict_dataset, read_embeddings

N_CLASSES, N_NEW, N_IMAGES = 12, 4, 8
RARE = ["processes", "killed_worker"]  # these take seconds; the others take tenths of a second
LIBC, M_ARENA_MAX = ctypes.CDLL(None), -8  # as in malloc.h
MOST_HUNG_FORKS = 3
hung_forks = []
CLOSED_FORM = {
    "temperature": 0.01,
    "prototype_weight": 1.0,
    "base_offset": 0.0,
    "single_image_weight": 5.0,
    "max_iter": 0,
}


class Soak:
    """Images, the results of a clean run, and the steps.

    Parameters
    ----------
    folder : Path
        Folder for image files, caches and data sets.
    """

    def __init__(self, folder):
        self.random = random.Random(0)
        emoji = load_emoji()
        self.names = emoji.target_names[:: len(emoji.target_names) // N_CLASSES][:N_CLASSES]
        chosen = np.concatenate(
            [np.flatnonzero(emoji.target == name)[:N_IMAGES] for name in self.names]
        )
        self.images = [emoji.images[i] for i in chosen]
        self.y = np.asarray(emoji.target)[chosen]
        self.base = np.flatnonzero(~np.isin(self.y, self.names[-N_NEW:]))
        self.weights = 1.0 + np.arange(len(self.base)) % 3
        self.folder = folder
        self.paths = [folder / f"{i}.png" for i in range(len(self.images))]
        for path, image in zip(self.paths, self.images, strict=True):
            image.save(path)
        self.prompts = [f"a photo of a {name}." for name in self.names]
        self.text_rows = self.clip().encode_text(self.prompts)
        self.texts = dict(zip(self.names, self.text_rows, strict=True))
        self.X = self.clip().transform(self.images)
        self.classifiers = {kind: self.fit(kind) for kind in self.unfitted()}
        self.proba = {kind: clf.predict_proba(self.X) for kind, clf in self.classifiers.items()}
        self.scores = self.search(self.unfitted()["candle"], self.X)
        self.scores_of_images = self.search(self.pipeline(), self.images)

    def clip(self, **options):
        return CLIPFeaturizer("emoji-clip", precision="fp32", device="cpu", **options)

    def pipeline(self, **options):
        return make_pipeline(self.clip(**options), self.unfitted()["candle"])

    def unfitted(self):
        universe = {"new_classes": list(self.names[-N_NEW:]), "text_encoder": self.texts}
        candle = CandleClassifier(**universe, device="cpu")
        return {
            "candle": candle,
            "weighted": clone(candle),
            "float64": clone(candle),
            "images only": CandleClassifier(text_encoder=None, device="cpu"),
            "rejecting": RejectingClassifier(candle, rejection_rate=0.2),
            "published": PublishedCandleClassifier(
                **universe, max_iter=3, random_state=0, device="cpu"
            ),
        }

    def fit(self, kind):
        X = self.X[self.base].astype(np.float64 if kind == "float64" else np.float32)
        weights = self.weights if kind == "weighted" else None
        return self.unfitted()[kind].fit(X, self.y[self.base], sample_weight=weights)

    def search(self, estimator, X, n_jobs=None):
        is_pipeline = hasattr(estimator, "steps")
        grid = {f"{'candleclassifier__' if is_pipeline else ''}margin": [0.5, 1.0]}
        search = GridSearchCV(estimator, grid, cv=2, n_jobs=n_jobs, error_score="raise")
        search.fit([X[i] for i in self.base] if is_pipeline else X[self.base], self.y[self.base])
        return search.cv_results_["mean_test_score"]

    def kind(self):
        return self.random.choice(list(self.classifiers))

    def check(self, kind, classifier, atol=0.0):
        proba = classifier.predict_proba(self.X)
        np.testing.assert_allclose(proba, self.proba[kind], rtol=0, atol=atol, err_msg=kind)

    def draw_images(self):
        """Row numbers and images in random order, as files and in memory."""
        rows = self.random.choices(range(len(self.images)), k=self.random.randint(1, 200))
        return rows, [
            self.random.choice([self.images[i], self.paths[i], self.paths[i].read_bytes()])
            for i in rows
        ]

    def encode(self, *, drawn=None, **options):
        rows, images = drawn or self.draw_images()
        options = {"batch_size": self.random.choice([1, 16, 64])} | options
        found = self.clip(**options).transform(images)
        np.testing.assert_allclose(found, self.X[rows], rtol=0, atol=1e-6)

    def encode_cold(self, **options):
        clear_memory()
        self.encode(**options)

    # Work

    def step_fit(self):
        kind = self.kind()
        self.check(kind, self.fit(kind), atol=1e-6)

    def step_predict(self):
        kind = self.kind()
        self.check(kind, self.classifiers[kind])

    def step_search(self):
        found = self.search(self.unfitted()["candle"], self.X)
        np.testing.assert_array_equal(found, self.scores)

    def step_search_of_images(self):
        images = self.random.choice([self.images, self.paths])
        found = self.search(self.pipeline(cache=self.random.choice([None, self.cache])), images)
        np.testing.assert_array_equal(found, self.scores_of_images)

    def step_processes(self):
        """A grid search in joblib processes."""
        try:
            found = self.search(self.pipeline(cache=self.cache), self.images, n_jobs=2)
            np.testing.assert_array_equal(found, self.scores_of_images)
        finally:
            get_reusable_executor().shutdown()

    def step_file(self):
        """Save and load a classifier."""
        kind, form = self.kind(), self.random.choice(["pickle", "joblib", "skops"])
        if form == "pickle":
            again = pickle.loads(pickle.dumps(self.classifiers[kind]))
        elif form == "joblib":
            joblib.dump(self.classifiers[kind], self.folder / "model.joblib")
            again = joblib.load(self.folder / "model.joblib")
        else:
            written = skops.io.dumps(self.classifiers[kind])
            trusted = skops.io.get_untrusted_types(data=written)
            again = skops.io.loads(written, trusted=trusted)
        self.check(kind, again)

    def step_label_set(self):
        clf = self.classifiers["candle"]
        more = {
            f"more {i}": np.random.default_rng(i).normal(size=self.X.shape[1]) for i in range(2)
        }
        self.check("candle", clf.add_classes(more).restrict(clf.classes_), atol=1e-5)

    def step_add_images(self):
        """Add images later, with settings for which this equals a fit on all images."""
        first = self.random.sample(range(len(self.base)), len(self.base) // 2)
        first = self.base[np.unique([*first, *np.unique(self.y[self.base], return_index=True)[1]])]
        later = np.setdiff1d(self.base, first)
        clf = self.unfitted()["float64"].set_params(**CLOSED_FORM)
        X = self.X.astype(np.float64)
        whole = clone(clf).fit(X[self.base], self.y[self.base]).predict_proba(X)
        grown = clf.fit(X[first], self.y[first]).add_images(X[later], self.y[later])
        np.testing.assert_allclose(grown.predict_proba(X), whole, rtol=0, atol=1e-6)

    def step_threads(self):
        """Fit, predict and encode in several threads."""
        works = [self.step_fit, self.step_predict, self.step_encode, self.step_cache]
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for work in self.random.choices(works, k=8)]:
                done.result()

    def step_encode(self):
        self.encode(n_jobs=self.random.choice([None, 3]))

    def step_encode_cold(self):
        self.encode_cold(n_jobs=self.random.choice([None, 3]))

    def step_encode_text(self):
        rows = self.random.choices(range(len(self.prompts)), k=20)
        found = self.clip().encode_text([self.prompts[i] for i in rows])
        np.testing.assert_allclose(found, self.text_rows[rows], rtol=0, atol=1e-6)

    @property
    def cache(self):
        """A cache that lasts for the whole soak and has room for half of the images."""
        return EmbeddingCache(self.folder / "cache", max_bytes=8 * 16384)

    def step_cache(self):
        self.encode_cold(cache=self.cache)

    def step_dataset(self):
        with self.new_folder() as folder:
            self.encode_dataset(folder)
            keys, X = read_embeddings(folder)
            np.testing.assert_allclose(X, self.X[keys.astype(int)], rtol=0, atol=1e-6)
            kind = self.random.choice(["candle", "rejecting", "images only"])
            predict_dataset(self.classifiers[kind], folder, folder / "answers", proba=True)

    def encode_dataset(self, folder):
        keys = [str(i) for i in range(len(self.paths))]
        encode_dataset(self.paths, folder, self.clip(), keys=keys, shard_size=20)

    # Faults

    def fault_broken_image(self):
        """A truncated file, or one that is not an image, is named; other images get their rows."""
        broken = self.folder / "broken"
        fault = self.random.choice(["cut", "noise", "folder", "pipe", "missing"])
        if fault == "cut":
            broken.write_bytes(self.paths[0].read_bytes()[: self.random.randint(0, 500)])
        elif fault == "noise":
            broken.write_bytes(self.random.randbytes(self.random.randint(1, 10_000)))
        elif fault == "folder":
            broken.mkdir()
        elif fault == "pipe":
            os.mkfifo(broken)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnreadableImageWarning)
                X = self.clip(on_error="nan").transform([*self.paths[:3], broken])
            np.testing.assert_allclose(X[:3], self.X[:3], rtol=0, atol=1e-6)
            assert np.isnan(X[3]).all(), f"{fault}: a file that is not an image has a row"
            try:
                self.clip().transform([*self.paths[:3], broken])
            except ImageReadError as error:
                assert error.positions == [3], error
            else:
                raise AssertionError(f"{fault}: a file that is not an image was read")
        finally:
            if broken.is_dir():
                broken.rmdir()
            else:
                broken.unlink(missing_ok=True)

    def fault_changed_image(self):
        """Replace a file that has been read by another image."""
        for i in self.random.choices(range(len(self.images)), k=3):
            path = self.folder / "changing.png"
            path.write_bytes(self.paths[i].read_bytes())
            self.encode(drawn=([i], [path]))

    def fault_failed_fit(self):
        """A fit that fails keeps the earlier fit."""
        kind = self.kind()
        clf = copy.copy(self.classifiers[kind])
        X, y = self.X[self.base].copy(), self.y[self.base]
        fault = self.random.choice(["infinite", "short", "parameter"])
        if fault == "infinite":
            X[self.random.randrange(len(X))] = np.inf
        elif fault == "short":
            y = y[1:]
        elif kind != "rejecting":
            clf.set_params(margin=-1)
        else:
            clf.set_params(rejection_rate=2)
        try:
            clf.fit(X, y)
        except ValueError:
            self.check(kind, clf)
        else:
            raise AssertionError(f"{kind}, {fault}: the fit did not fail")

    def fault_damaged_cache(self):
        """Flip bits of a cache, or truncate or remove its files, between two processes."""
        with self.new_folder() as folder:
            work = partial(self.encode_cold, drawn=self.draw_images(), cache=folder)
            in_process(work)
            for path in folder.iterdir():
                fault, size = self.random.choice(["flip", "cut", "remove"]), path.stat().st_size
                if fault == "remove":
                    path.unlink()
                elif fault == "cut":
                    os.truncate(path, self.random.randint(0, size))
                elif size:
                    with open(path, "r+b") as file:
                        for _ in range(self.random.randint(1, 100)):
                            file.seek(self.random.randrange(size))
                            file.write(self.random.randbytes(1))
            in_process(work)

    def fault_vanished_cache(self):
        folder = self.folder / "vanishing"
        self.encode_cold(cache=folder)
        shutil.rmtree(folder, ignore_errors=True)
        self.encode_cold(cache=folder)

    def fault_locked_cache(self):
        """Another connection locks the cache for a moment."""
        self.encode(cache=self.cache)  # so that it exists
        path = next(Path(self.cache.folder).glob("*.sqlite"))
        held = threading.Event()

        def hold(seconds):
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
            held.set()
            time.sleep(seconds)
            connection.execute("ROLLBACK")
            connection.close()

        other = threading.Thread(target=hold, args=[self.random.uniform(0, 0.3)])
        other.start()
        held.wait()
        try:
            self.encode_cold(cache=self.cache)
        finally:
            other.join()

    def fault_full_disk(self):
        """Files cannot grow beyond a limit, as on a full disk."""
        room = self.random.randint(0, 200_000)

        def work():
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            self.encode_cold(cache=folder)

        with self.new_folder() as folder:
            in_process(work)
            in_process(partial(self.encode_cold, cache=folder))

    def fault_killed_writer(self):
        """Kill a process while it writes to the cache that this process uses."""
        in_process(
            partial(self.encode_cold, cache=self.cache, batch_size=1),
            kill_after=self.random.uniform(0, 0.3),
        )
        self.encode_cold(cache=self.cache)

    def fault_killed_dataset(self):
        """A second call completes a data set after the first was killed."""
        with self.new_folder() as folder:
            in_process(partial(self.encode_dataset, folder), kill_after=self.random.uniform(0, 0.5))
            self.encode_dataset(folder)
            keys, X = read_embeddings(folder)
            assert sorted(map(int, keys)) == list(range(len(self.paths))), keys
            np.testing.assert_allclose(X, self.X[keys.astype(int)], rtol=0, atol=1e-6)

    def fault_killed_worker(self):
        """Kill a joblib worker: the search fails, and the next search works."""
        pid = joblib.Parallel(n_jobs=2)(2 * [joblib.delayed(os.getpid)()])[0]
        timer = threading.Timer(self.random.uniform(0, 3), os.kill, (pid, signal.SIGKILL))
        timer.start()
        try:
            found = self.search(self.pipeline(cache=self.cache), self.images, n_jobs=2)
            np.testing.assert_array_equal(found, self.scores_of_images)
        except joblib.externals.loky.process_executor.TerminatedWorkerError:
            pass
        finally:
            timer.cancel()
            timer.join()
        self.step_processes()

    def fault_interrupt(self):
        """After Ctrl-C at some moment, everything remains usable."""
        works = [self.step_fit, self.step_search, self.step_encode_cold, self.step_cache]
        work = self.random.choice([*works, self.step_dataset])
        timer = threading.Timer(self.random.uniform(0, 0.2), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            work()
            timer.join()
            time.sleep(1)  # the signal arrives by then
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("Ctrl-C had no effect")
        finally:
            timer.cancel()
        self.step_predict()
        self.step_encode()
        self.step_cache()

    def new_folder(self):
        return TemporaryFolder(dir=self.folder)


class TemporaryFolder(tempfile.TemporaryDirectory):
    """A folder as a Path, which is removed at the end."""

    def __enter__(self):
        return Path(super().__enter__())


def in_process(work, kill_after=None):
    """Do the work in a forked process, which must succeed or is killed after some seconds.

    A fork copies the memory of MKL, which PyTorch may use, as it is at that moment. One process in
    thousands then searches a list of buffers forever. Such a process is killed after a minute and
    counted in `hung_forks`, and the work is done again.
    """
    child = fork(work)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        hung_forks.append(time.monotonic())
        if len(hung_forks) > MOST_HUNG_FORKS:
            raise RuntimeError(f"{len(hung_forks)} forked processes hung")
        return in_process(work)
    if status not in ([0, signal.SIGKILL] if kill_after is not None else [0]):
        raise RuntimeError(f"a process ended with status {status}")


def fork(work):
    """Fork a process that does the work and exits; return its process ID."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)  # a fork does not copy the threads of PyTorch
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


Use = collections.namedtuple("Use", ["megabytes", "files", "threads", "processes"])


def use_now():
    """What this process uses, without memory that the allocator keeps for later."""
    gc.collect()
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    about = Path("/proc/self/status").read_text()
    children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return Use(
        int(re.search(r"VmRSS:\s*(\d+) kB", about)[1]) // 1024,
        len(os.listdir("/proc/self/fd")),
        int(re.search(r"Threads:\s*(\d+)", about)[1]),
        sum(map(len, children)),
    )


def describe(seed):
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ["skcandle", "torch", "scikit-learn", "numpy", "joblib"]
    print(", ".join(f"{name} {version(name)}" for name in packages), end=", ")
    print(f"Python {platform.python_version()}")
    print(f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores", end=", ")
    print(f"threads of PyTorch: {torch.get_num_threads()}, seed {seed}\n")


def step_names():
    return [name for name in dir(Soak) if name.startswith(("step_", "fault_"))]


def run_step(state, number, seed):
    """Run the step with a number and return its name."""
    names = step_names()
    state.random = random.Random(f"{seed} {number}")
    often = [0.05 if name.partition("_")[2] in RARE else 1 for name in names]
    drawn = state.random.choices(names, often)[0]
    name = names[number] if number < len(names) else drawn
    try:
        getattr(state, name)()
    except BaseException:
        print(f"in step {number}, {name}, with seed {seed}:", file=sys.stderr)
        raise
    return name


def grown(first, last, n_killed_pools=0):
    """What the process uses more of at the end, beyond what allocators and pools keep.

    A joblib pool whose worker was killed leaves a thread that waits on a pipe forever.
    """
    allowed = Use(
        megabytes=64, files=5 + 2 * n_killed_pools, threads=2 + n_killed_pools, processes=0
    )
    more = np.subtract(last, first) > allowed
    return [name for name, is_more in zip(Use._fields, more, strict=True) if is_more]


def soak(minutes, seed):
    describe(seed)
    counts, uses = collections.Counter(), []
    with TemporaryFolder() as folder:
        state, numbers, start = Soak(folder), itertools.count(), time.monotonic()
        for _ in step_names():
            counts[run_step(state, next(numbers), seed)] += 1
        print("minutes   steps     MB  files  threads  processes")
        for tenth in range(1, 11):
            while time.monotonic() - start < 6 * minutes * tenth:
                counts[run_step(state, next(numbers), seed)] += 1
            uses.append(use_now())
            row = ((time.monotonic() - start) / 60, counts.total(), *uses[-1])
            print("{:7.1f} {:7,} {:6} {:6} {:8} {:10}".format(*row), flush=True)
    print(f"\n{counts.total():,} steps, all with the same results as in the clean run")
    for kind in ("step", "fault"):
        some = [
            f"{name.partition('_')[2].replace('_', ' ')} {counts[name]}"
            for name in step_names()
            if name.startswith(kind)
        ]
        print(f"{kind}s: {', '.join(some)}")
    print(f"forked processes that hung in MKL: {len(hung_forks)}")
    more = grown(uses[0], uses[-1], counts["fault_killed_worker"])
    if more:
        raise SystemExit(
            f"the process uses more {' and '.join(more)} than after a tenth of the time"
        )
    print("no more memory, files, threads or processes than after a tenth of the time, except for")
    print("64 MB, and a thread and a pipe of each joblib pool whose worker was killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="run only this step")
    args = parser.parse_args()
    warnings.simplefilter("ignore", CacheWarning)  # of the faults
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    if hasattr(LIBC, "mallopt"):
        # one heap for all threads, so that fragmentation is not mistaken for growth
        LIBC.mallopt(M_ARENA_MAX, 1)
    if args.only is None:
        soak(args.minutes, args.seed)
    else:
        with TemporaryFolder() as folder:
            print(run_step(Soak(folder), args.only, args.seed))


if __name__ == "__main__":
    sys.exit(main())
