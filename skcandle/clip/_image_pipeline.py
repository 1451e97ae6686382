"""From many images to rows: read, look up, decode and encode."""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from joblib import cpu_count, effective_n_jobs
from joblib.parallel import get_active_backend
from tqdm import tqdm

from .._images.failures import describe_failure, unreadable_error, unreadable_warning
from .._images.reading import read_image, reread

# Images that are read together, and looked up in the cache by one query.
READ_TOGETHER = 32
# Seconds to read one image from which threads do it: handing over small files that are in memory
# takes longer than reading them.
WORTH_A_THREAD = 1e-3
# Seconds of work below which no progress is shown, as of a prediction of two images.
PROGRESS_DELAY = 0.5
# Encoded images that wait for a thread to decode them. A hundred photographs of 5 MB are
# enough to keep any number of threads busy; a thousand are too much for a small machine.
MAX_WAITING_BYTES = 256 * 2**20


@dataclass(frozen=True)
class EmbeddedImages:
    """Rows of images, and why some of them have none.

    Attributes
    ----------
    rows : ndarray of shape (n_images, n_features) and dtype float32
        NaN for images that cannot be read.
    reasons : dict of int to str
        What is wrong with each of those, by position.
    """

    rows: np.ndarray
    reasons: dict[int, str]

    @property
    def readable(self):
        """Positions of the images that have a row, in order."""
        return [i for i in range(len(self.rows)) if i not in self.reasons]

    def error(self):
        """The error that names the images that cannot be read."""
        return unreadable_error(self.reasons, len(self.rows))

    def warning(self):
        """The warning that says how many images cannot be read, and names the first."""
        return unreadable_warning(self.reasons, len(self.rows))


class ImagePipeline:
    """Embeds the images of one call.

    Threads read and decode; this thread looks up and encodes. No more than about two batches are
    held at a time. An image that cannot be read does not stop the others.

    Parameters
    ----------
    encoder : Encoder
    cache : CachedRows
        Of the image encoder.
    images : list
        See :func:`skcandle._images.inputs.as_image_list`.
    n_jobs : int or None
        Threads that read and decode.
    verbose : int
        Whether to show progress.
    """

    def __init__(self, encoder, cache, images, *, n_jobs=None, verbose=0):
        self.encoder = encoder
        self.cache = cache
        self.images = images
        self.n_threads = n_threads(n_jobs)
        self.verbose = verbose
        self.n_ahead = encoder.batch_size if decodes_ahead(encoder.device) else 0
        self.rows = np.empty((len(images), encoder.n_features), dtype=np.float32)
        self.first = {}  # from digest to the position where the content was met first
        self.copies = {}  # from the position of a content met before to that first position
        self.reasons = {}  # what is wrong with images that cannot be read, by position
        self.decoding: deque[_Decoding] = deque()  # images on their way to the model, in order

    def run(self):
        """Embed all images.

        Returns
        -------
        result : EmbeddedImages
        """
        size = self.encoder.batch_size
        n_read = 0
        progress = tqdm(
            total=len(self.images),
            desc="CLIPFeaturizer",
            unit="image",
            disable=not self.verbose,
            delay=PROGRESS_DELAY,
        )
        with progress, _threads(self.n_threads) as pool:
            for contents in self._contents(pool):
                n_read += len(contents)
                self._start_decoding(pool, self._not_cached(self._new(contents)))
                while len(self.decoding) >= size + self.n_ahead:
                    self._encode_batch()
                progress.update(n_read - len(self.decoding) - progress.n)
            while self.decoding:
                self._encode_batch()
                progress.update(n_read - len(self.decoding) - progress.n)
        return self._result()

    def _contents(self, pool):
        """Contents by position, None for failures; some at a time, the next are read meanwhile."""
        ahead: deque[list[Future]] = deque()
        for start in range(0, len(self.images), READ_TOGETHER):
            ahead.append(self._start_reading(pool, start))
            if len(ahead) == 2:
                yield self._finish_reading(ahead.popleft())
        while ahead:
            yield self._finish_reading(ahead.popleft())

    def _start_reading(self, pool, start):
        """Futures of what has become of some images."""
        first, *rest = range(len(self.images))[start : start + READ_TOGETHER]
        clock = time.perf_counter()
        outcome = self._read([first])
        n_tasks = min(self.n_threads, len(rest))
        if n_tasks < 2 or time.perf_counter() - clock < WORTH_A_THREAD:
            return [_done(outcome + self._read(rest))]
        # One task a thread; one an image would cost more than finding it in the cache.
        tasks = [pool.submit(self._read, rest[k::n_tasks]) for k in range(n_tasks)]
        return [_done(outcome), *tasks]

    def _read(self, positions):
        return [(i, *_outcome(read_image, self.images[i])) for i in positions]

    def _finish_reading(self, tasks):
        contents = {}
        # in order of position, so that batches do not depend on the number of threads
        for i, content, error in sorted(chain.from_iterable(task.result() for task in tasks)):
            contents[i] = content
            if error is not None:
                self._note_failure(i, error)
        return contents

    def _new(self, contents):
        """Contents that this call has not met before."""
        new = {}
        for i, content in contents.items():
            if content is None:
                continue
            first = self.first.setdefault(content.digest, i)
            if first == i:
                new[i] = content
            else:
                self.copies[i] = first
        return new

    def _not_cached(self, contents):
        """Contents whose rows are not cached."""
        cached = self.cache.get([content.digest for content in contents.values()])
        missing = {}
        for i, content in contents.items():
            if content.digest in cached:
                self.rows[i] = cached[content.digest]
            else:
                missing[i] = content
        return missing

    def _start_decoding(self, pool, contents):
        if not contents:
            return
        # Here, not at the start: with a warm cache the model is never loaded.
        preprocess = self.encoder.preprocess
        for i, content in contents.items():
            task = pool.submit(_outcome, self._pixels, i, content, preprocess)
            self.decoding.append(_Decoding(i, content.digest, content.n_bytes, task))
        waiting = [item for item in self.decoding if not item.task.done()]
        n_bytes = sum(item.n_bytes for item in waiting)
        for item in waiting:
            if n_bytes <= MAX_WAITING_BYTES:
                break
            wait([item.task])
            n_bytes -= item.n_bytes

    def _pixels(self, i, content, preprocess):
        return preprocess(reread(self.images[i], content))

    def _encode_batch(self):
        """Rows of the next full batch, or of all that is left."""
        batch: list[tuple] = []
        if not self.n_ahead:
            wait([item.task for item in self.decoding])
        while self.decoding and len(batch) < self.encoder.batch_size:
            item = self.decoding.popleft()
            pixels, error = item.task.result()
            if error is None:
                batch.append((item.position, item.digest, pixels))
            else:
                self._note_failure(item.position, error)
        if not batch:
            return
        positions, digests, pixels = zip(*batch, strict=True)
        rows = self.encoder.encode_pixels(pixels)
        self.rows[list(positions)] = rows
        self.cache.put(digests, rows)

    def _note_failure(self, i, error):
        self.reasons[i] = describe_failure(self.images[i], error)

    def _result(self):
        for i, original in self.copies.items():
            self.rows[i] = self.rows[original]
            if original in self.reasons:
                self.reasons[i] = self.reasons[original]
        self.rows[list(self.reasons)] = np.nan
        return EmbeddedImages(self.rows, self.reasons)


def n_threads(n_jobs):
    """Number of threads that `n_jobs` stands for; None is as many as PyTorch uses."""
    backend, n_in_context = get_active_backend()
    if n_jobs is not None or n_in_context is not None:
        return effective_n_jobs(n_jobs)
    # A worker of joblib is one of several; in its own processes, and Dask in its own, each has set
    # PyTorch's threads to a share.
    return 1 if backend.nesting_level else min(cpu_count(), torch.get_num_threads())


def decodes_ahead(device):
    """Whether the next batch is decoded while the model works on one.

    Not on a CPU: there, either is done on all cores. A product of matrices waits for the slowest
    core, and a core that decodes as well is slow.
    """
    return device.type != "cpu"


class _Decoding(NamedTuple):
    """An image that a thread decodes, or has decoded."""

    position: int
    digest: bytes
    n_bytes: int
    task: Future


@contextmanager
def _threads(n_threads):
    """A pool that, after an error, leaves what has not begun."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="skcandle")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _done(result):
    """A future that has its result."""
    task: Future = Future()
    task.set_result(result)
    return task


def _outcome(function, *args):
    try:
        return function(*args), None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged data
        return None, error
