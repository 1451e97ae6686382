"""Torch's global random generator, from which modules take their first weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ._locks import ForkSafeLock

_generator = ForkSafeLock()


@contextmanager
def seeded_generator(seed: int) -> Iterator[None]:
    """Seed the generator of the CPU, for one thread at a time; afterwards it is as before."""
    with _generator, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
