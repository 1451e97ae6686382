"""Fit, search, predict and encode at random for a while, with faults, and compare every result.

    python tools/soak.py --minutes 30

Every step is one of the functions of `Soak` that begin with ``step_``. Its result is compared with
that of a clean run at the start. Among the steps are damaged images, a cache whose file is damaged,
cut off or removed, interruptions by Ctrl-C, and threads. At the end, memory and open files of the
process have to be what they were after the first tenth of the time, up to what allocators keep.
"""

import argparse
import collections
import gc
import os
import pickle
import random
import shutil
import signal
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV

from skcandle import CandleClassifier, CLIPFeaturizer, PublishedCandleClassifier, clear_memory
from skcandle.datasets import load_emoji
from skcandle.exceptions import CacheWarning, ImageReadError

N_CLASSES, N_NEW, N_IMAGES = 12, 4, 8
MORE_BYTES, MORE_FILES = 64 * 2**20, 5  # at the end; allocators keep some memory


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(os.listdir("/proc/self/fd"))


class Soak:
    """Images, results of a clean run, and the steps.

    Parameters
    ----------
    folder : Path
        For files of images and caches.
    seed : int
    """

    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        emoji = load_emoji()
        self.names = emoji.target_names[:: len(emoji.target_names) // N_CLASSES][:N_CLASSES]
        chosen = [np.flatnonzero(emoji.target == name)[:N_IMAGES] for name in self.names]
        self.images = [emoji.images[i] for i in np.concatenate(chosen)]
        y = np.asarray(emoji.target)[np.concatenate(chosen)]
        self.folder, self.cache = folder, folder / "cache"
        self.paths = [folder / f"{i}.png" for i in range(len(self.images))]
        for path, image in zip(self.paths, self.images, strict=True):
            image.save(path)
        self.X = self.clip().transform(self.images)
        texts = self.clip().encode_text([f"a photo of a {name}." for name in self.names])
        self.texts = dict(zip(self.names, texts, strict=True))
        self.base = ~np.isin(y, self.names[-N_NEW:])
        self.y = y
        self.classifiers = {
            kind: self.make(kind).fit(*self.training_set) for kind in ("candle", "published")
        }
        self.proba = {kind: c.predict_proba(self.X) for kind, c in self.classifiers.items()}
        self.scores = self.search().cv_results_["mean_test_score"]

    @property
    def training_set(self):
        return self.X[self.base], self.y[self.base]

    def clip(self, **options):
        return CLIPFeaturizer("emoji-clip", precision="fp32", device="cpu", **options)

    def make(self, kind):
        universe = {"new_classes": list(self.names[-N_NEW:]), "text_encoder": self.texts}
        if kind == "candle":
            return CandleClassifier(**universe, device="cpu")
        return PublishedCandleClassifier(**universe, max_iter=3, random_state=0, device="cpu")

    def search(self):
        return GridSearchCV(self.make("candle"), {"margin": [0.5, 1.0]}, cv=2).fit(
            *self.training_set
        )

    def kind(self):
        return self.random.choice(list(self.classifiers))

    def step_fit(self):
        kind = self.kind()
        proba = self.make(kind).fit(*self.training_set).predict_proba(self.X)
        np.testing.assert_allclose(proba, self.proba[kind], atol=1e-6)

    def step_predict(self):
        kind = self.kind()
        proba = self.classifiers[kind].predict_proba(self.X)
        np.testing.assert_array_equal(proba, self.proba[kind])

    def step_search(self):
        np.testing.assert_array_equal(self.search().cv_results_["mean_test_score"], self.scores)

    def step_pickle(self):
        kind = self.kind()
        again = pickle.loads(pickle.dumps(self.classifiers[kind]))
        np.testing.assert_array_equal(again.predict_proba(self.X), self.proba[kind])

    def step_label_set(self):
        clf = self.classifiers["candle"]
        more = {
            f"more {i}": np.random.default_rng(i).normal(size=self.X.shape[1]) for i in range(2)
        }
        view = clf.add_classes(more).restrict(clf.classes_)
        np.testing.assert_allclose(view.predict_proba(self.X), self.proba["candle"], atol=1e-5)

    def step_threads(self):
        with ThreadPoolExecutor(4) as pool:
            for proba in pool.map(self.classifiers["candle"].predict_proba, [self.X] * 8):
                np.testing.assert_array_equal(proba, self.proba["candle"])

    def encode(self, **options):
        """Some images, in a random order, as files or in memory."""
        rows = self.random.choices(range(len(self.images)), k=self.random.randint(1, 200))
        X = [self.random.choice([self.images[i], self.paths[i]]) for i in rows]
        found = self.clip(batch_size=self.random.choice([1, 16, 64]), **options).transform(X)
        np.testing.assert_allclose(found, self.X[rows], atol=1e-6)

    def step_encode(self):
        self.encode(n_jobs=self.random.choice([None, 3]))

    def step_encode_cold(self):
        clear_memory()
        self.encode()

    def step_folder(self):
        clear_memory()
        self.encode(cache=self.cache)

    def step_damaged_folder(self):
        """Whatever happens to the files of a cache, rows are right."""
        for path in self.cache.glob("*"):
            fault = self.random.choice(["flip", "cut", "remove", "leave"])
            if fault == "remove":
                path.unlink()
            elif fault == "cut":
                os.truncate(path, self.random.randint(0, path.stat().st_size))
            elif fault == "flip" and path.stat().st_size:
                with open(path, "r+b") as file:
                    file.seek(self.random.randrange(path.stat().st_size))
                    file.write(self.random.randbytes(1))
        clear_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            self.encode(cache=self.cache)
        clear_memory()
        shutil.rmtree(self.cache, ignore_errors=True)

    def step_broken_image(self):
        broken = self.folder / "broken.png"
        broken.write_bytes(self.paths[0].read_bytes()[: self.random.randint(0, 500)])
        try:
            self.clip().transform([*self.paths[:3], broken])
        except ImageReadError as error:
            assert error.positions == [3], error
        else:
            raise AssertionError("a truncated image was read")

    def step_interrupt(self):
        """Ctrl-C at some moment leaves everything usable."""
        work = self.random.choice([self.step_fit, self.step_encode_cold, self.step_folder])
        timer = threading.Timer(self.random.uniform(0, 0.2), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            work()
            timer.join()
            time.sleep(0.05)  # the signal comes by then
        except KeyboardInterrupt:
            pass
        finally:
            timer.cancel()
        self.step_predict()
        self.step_encode()


def soak(minutes, seed):
    start, counts = time.monotonic(), collections.Counter()
    end = start + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        state = Soak(Path(folder), seed)
        steps = [getattr(state, name) for name in dir(state) if name.startswith("step_")]
        before, next_report = None, start
        while time.monotonic() < end:
            step = state.random.choice(steps)
            step()
            counts[step.__name__.removeprefix("step_")] += 1
            now = time.monotonic()
            if before is None and now > start + 6 * minutes:
                gc.collect()
                before = resident_bytes(), open_files()
            if now > next_report:
                next_report += max(60, 6 * minutes)
                megabytes = resident_bytes() / 2**20
                print(f"{(now - start) / 60:5.1f} min  {megabytes:7.0f} MB  {open_files()} files")
        gc.collect()
        after = resident_bytes(), open_files()
    print(
        f"{sum(counts.values()):,} steps, all as in the clean run: {dict(sorted(counts.items()))}"
    )
    print(f"memory {before[0] / 2**20:.0f} -> {after[0] / 2**20:.0f} MB", end=", ")
    print(f"open files {before[1]} -> {after[1]}")
    if after[0] > before[0] + MORE_BYTES or after[1] > before[1] + MORE_FILES:
        raise SystemExit("memory or open files have grown")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    soak(args.minutes, args.seed)


if __name__ == "__main__":
    main()
