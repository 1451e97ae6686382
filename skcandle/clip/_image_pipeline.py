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
from joblib import cpu_count
from joblib.parallel import get_active_backend
from tqdm import tqdm

from .._images.failures import describe_failure, unreadable_error, unreadable_warning
from .._images.reading import read_image, remote_bytes, reread
from .._images.urls import UrlReader, is_remote

# Images that are read together and looked up in the cache with one query.
READ_TOGETHER = 32
# Threads read images if one takes at least this many seconds: handing a small file that is already
# in memory to a thread takes longer than reading it.
WORTH_A_THREAD = 1e-3
# Seconds of work before progress is shown, so that short calls print nothing.
PROGRESS_DELAY = 0.5
# Bytes of compressed images that wait to be decoded. 256 MiB are about fifty photographs of 5 MB,
# enough to keep all threads busy, and not too much for a small machine.
MAX_WAITING_BYTES = 256 * 2**20


@dataclass(frozen=True)
class EmbeddedImages:
    """Rows of images, and the reasons for those without one.

    Attributes
    ----------
    rows : ndarray of shape (n_images, n_features) and dtype float32
        NaN for images that cannot be read.
    reasons : dict of int to str
        What is wrong with each of these, by position.
    digests : list of bytes or None
        Digests of the contents, which are the keys in the cache.
    """

    rows: np.ndarray
    reasons: dict[int, str]
    digests: list[bytes | None]

    @property
    def readable(self):
        """Positions of the images that have a row, in order."""
        return [i for i in range(len(self.rows)) if i not in self.reasons]

    def error(self):
        """The error that names the images that cannot be read."""
        return unreadable_error(self.reasons, len(self.rows))

    def warning(self):
        """The warning that counts the images that cannot be read and names the first."""
        return unreadable_warning(self.reasons, len(self.rows))


class ImagePipeline:
    """Embed the images of one call.

    Threads read and decode; the calling thread queries the cache and runs the model. At most about
    two batches are held in memory, and with a GPU a third, on which it works. An image that cannot
    be read does not stop the others.

    Parameters
    ----------
    encoder : Encoder
    cache : CachedRows
        Of the image encoder.
    images : list
        As returned by :func:`skcandle._images.inputs.as_image_list`.
    n_jobs : int or None
        Threads that read and decode.
    verbose : int
        Whether to show progress.
    """

    def __init__(self, encoder, cache, images, *, n_jobs=None, verbose=0):
        self.encoder = encoder
        self.cache = cache
        self.images = images
        self.urls = UrlReader()
        self.n_threads = n_threads(n_jobs)
        self.verbose = verbose
        self.n_ahead = encoder.batch_size if decodes_ahead(encoder.device) else 0
        self.rows = np.empty((len(images), encoder.n_features), dtype=np.float32)
        self.first = {}  # from digest to the first position with this content
        self.copies = {}  # from the position of a repeated image to its first position
        self.digests: list[bytes | None] = [None] * len(images)
        self.reasons = {}  # what is wrong with images that cannot be read, by position
        self.decoding: deque[_Decoding] = deque()  # images that wait for the model, in order
        self.encoding: deque[_Encoding] = deque()  # batches that the model works on

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
                progress.update(n_read - self._n_in_work() - progress.n)
            while self.decoding:
                self._encode_batch()
                progress.update(n_read - self._n_in_work() - progress.n)
            self._finish_batches(n_left=0)
            progress.update(n_read - progress.n)
        return self._result()

    def _n_in_work(self):
        return len(self.decoding) + sum(len(batch.positions) for batch in self.encoding)

    def _contents(self, pool):
        """Contents by position, None for failures, in groups; the next group is read ahead."""
        ahead: deque[list[Future]] = deque()
        for start in range(0, len(self.images), READ_TOGETHER):
            ahead.append(self._start_reading(pool, start))
            if len(ahead) == 2:
                yield self._finish_reading(ahead.popleft())
        while ahead:
            yield self._finish_reading(ahead.popleft())

    def _start_reading(self, pool, start):
        """Futures with the contents or errors of a group of images."""
        group = range(len(self.images))[start : start + READ_TOGETHER]
        # With a GPU, this thread is there for it; with a network, nothing here should wait.
        if len(self.images) > 1 and (self.n_ahead or is_remote(self.images[start])):
            n_tasks = min(self.n_threads, len(group))
            return [pool.submit(self._read, group[k::n_tasks]) for k in range(n_tasks)]
        first, *rest = group
        clock = time.perf_counter()
        outcome = self._read([first])
        n_tasks = min(self.n_threads, len(rest))
        if n_tasks < 2 or time.perf_counter() - clock < WORTH_A_THREAD:
            return [_done(outcome + self._read(rest))]
        # One task per thread: a task per image would take longer than a cache look-up.
        tasks = [pool.submit(self._read, rest[k::n_tasks]) for k in range(n_tasks)]
        return [_done(outcome), *tasks]

    def _read(self, positions):
        return [(i, *_outcome(self._read_one, self.images[i])) for i in positions]

    def _read_one(self, image):
        return read_image(remote_bytes(image, self.urls) if is_remote(image) else image)

    def _finish_reading(self, tasks):
        contents = {}
        # In order of position, so that batches do not depend on the number of threads.
        for i, content, error in sorted(chain.from_iterable(task.result() for task in tasks)):
            contents[i] = content
            if error is not None:
                self._note_failure(i, error)
        return contents

    def _new(self, contents):
        """Contents that are new in this call."""
        new = {}
        for i, content in contents.items():
            if content is None:
                continue
            self.digests[i] = content.digest
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
        # Only now, so that the model is not loaded if all images are cached.
        preprocess = self.encoder.preprocess
        for i, content in contents.items():
            work = self._pixels, i, content, preprocess
            # to start a thread for a single image, and wait for it, only takes time
            task = _done(_outcome(*work)) if len(self.images) == 1 else pool.submit(_outcome, *work)
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
        """Start to encode the next full batch, or what is left, and store the one before."""
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
        self.encoding.append(_Encoding(positions, digests, self.encoder.start(pixels)))
        # A GPU gets the next batch before this thread waits for the rows of the last one.
        self._finish_batches(n_left=1 if self.n_ahead else 0)

    def _finish_batches(self, n_left):
        """Store rows, until the model works on at most so many batches."""
        while len(self.encoding) > n_left:
            batch = self.encoding.popleft()
            rows = self.encoder.finish(batch.started)
            self.rows[list(batch.positions)] = rows
            self.cache.put(batch.digests, rows)

    def _note_failure(self, i, error):
        self.reasons[i] = describe_failure(self.images[i], error)

    def _result(self):
        for i, original in self.copies.items():
            self.rows[i] = self.rows[original]
            if original in self.reasons:
                self.reasons[i] = self.reasons[original]
        self.rows[list(self.reasons)] = np.nan
        return EmbeddedImages(self.rows, self.reasons, self.digests)


def n_threads(n_jobs):
    """Number of threads for `n_jobs`; None means as many as PyTorch uses."""
    backend, n_in_context = get_active_backend()
    n_jobs = n_in_context if n_jobs is None else n_jobs
    # Not joblib's effective_n_jobs: processes that may not start others may start threads.
    if n_jobs is not None:
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)
    # Several joblib workers run at once. In processes of joblib and of Dask, the number of
    # PyTorch's threads is already that worker's share.
    return 1 if backend.nesting_level else min(cpu_count(), torch.get_num_threads())


def decodes_ahead(device):
    """Whether the next batch is decoded while the model works on one.

    Not on a CPU, where both use all cores: a matrix product waits for the slowest core, and a core
    that also decodes is slow.
    """
    return device.type != "cpu"


class _Decoding(NamedTuple):
    """An image that is being decoded, or is decoded."""

    position: int
    digest: bytes
    n_bytes: int
    task: Future


class _Encoding(NamedTuple):
    """A batch that the model works on."""

    positions: tuple[int, ...]
    digests: tuple[bytes, ...]
    started: tuple


@contextmanager
def _threads(n_threads):
    """A thread pool that cancels the tasks that have not started when an error occurs."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="skcandle")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _done(result):
    """A future with this result."""
    task: Future = Future()
    task.set_result(result)
    return task


def _outcome(function, *args):
    try:
        return function(*args), None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any type on damaged data
        return None, error
