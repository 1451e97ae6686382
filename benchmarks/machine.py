"""What the machine can do, and what a process has used: units of the timing benchmarks."""

import re
import resource
import time
from pathlib import Path

import torch


def seconds(function, *args):
    """Time that a call takes, and its result."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def resident_mb(peak=False):
    """Resident memory of this process, now or at its peak, in MB (10**6 bytes).

    Linux counts the peak of the program that was started; elsewhere the peak is all there is.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    field = "VmHWM" if peak else "VmRSS"
    return int(re.search(rf"{field}:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6


def gemm_gflops(d, n_rows=4096, rounds=20):
    """Best rate of float32 products (n_rows, d) @ (d, d), in 10**9 operations per second."""
    a, b = torch.rand(n_rows, d), torch.rand(d, d)
    best = min(seconds(torch.mm, a, b)[0] for _ in range(rounds))
    return 2 * n_rows * d * d / best / 1e9
