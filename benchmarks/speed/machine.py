"""What the machine can do, and what a process has used, for the speed benchmarks."""

import platform
import re
import resource
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode


def seconds(function, *args, clock=time.perf_counter):
    """Time that a call takes, and its result."""
    start = clock()
    result = function(*args)
    return clock() - start, result


def resident_mb(peak=False):
    """Resident memory of this process, now or at its peak, in MB (10**6 bytes).

    On Linux, the peak is that of the program that was started. Elsewhere, only the peak is
    available.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    field = "VmHWM" if peak else "VmRSS"
    return int(re.search(rf"{field}:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6


def processor(device="cpu"):
    """The name of the processor or of the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    about = Path("/proc/cpuinfo")
    found = about.exists() and re.search(r"model name\s*: (.*)", about.read_text())
    return found[1] if found else platform.processor() or platform.machine()


def synchronised(function, device):
    """The function, changed to return only when the device has finished."""

    def call(*args):
        result = function(*args)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return call


def matmul_gflops(dtype, device="cpu", n=2048, k=2048, m=2048, rounds=5, clock=time.perf_counter):
    """Best rate of products (n, k) @ (k, m) in a number format, in 10**9 operations per second."""
    a, b = torch.rand(n, k).to(device, dtype), torch.rand(k, m).to(device, dtype)
    with torch.inference_mode():
        product = synchronised(torch.mm, device)
        best = min(seconds(product, a, b, clock=clock)[0] for _ in range(rounds))
    return 2 * n * k * m / best / 1e9


def forward_gflop(module, dtype, size):
    """Operations of an image encoder for one image, in 10**9."""
    device = next(module.visual.parameters()).device
    image = torch.zeros(1, 3, *size, device=device, dtype=dtype)
    counter = FlopCounterMode(display=False)
    # with gradients, since PyTorch otherwise uses fused layers that are not counted
    with counter, torch.enable_grad():
        module.encode_image(image)
    return counter.get_total_flops() / 1e9


def layer_gflops(module, dtype, device="cpu", n_images=32):
    """Rate of the matrix products in a block of a vision transformer; None for other models."""
    if not hasattr(module.visual, "transformer"):
        return None
    width = module.visual.transformer.width
    n_rows = n_images * module.visual.positional_embedding.shape[0]
    work = seconds_of_all = 0
    for k, m in [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]:
        rate = matmul_gflops(dtype, device, n_rows, k, m)
        work += k * m
        seconds_of_all += k * m / rate
    return work / seconds_of_all
