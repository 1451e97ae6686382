"""Torch devices from the ``device`` parameter, and the precision of arithmetic on them."""

import ctypes
import functools
import os
import re
import threading
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from ._locks import ForkSafeLock
from ._warnings import warn_user
from .exceptions import DeviceNotAvailableError

_settings, _defaults = ForkSafeLock(), ForkSafeLock()
_n_exact = 0  # number of threads in `exact_matmul`
_former: tuple = ()  # PyTorch's settings before the first of them

# From PyTorch 2.9 on, reading the earlier flags is an error if the caller has set these.
HAS_FP32_PRECISION = hasattr(torch.backends.cuda.matmul, "fp32_precision")
EXACT = ("ieee", "ieee") if HAS_FP32_PRECISION else ("highest", False)

# In the messages of CUDA, cuBLAS, cuDNN and Metal.
OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")

# Products of at most so many multiplications, some 30 ms of one core, use one thread. With a busy
# neighbour, two threads took 5 to 12 times as long for 3e8 (benchmarks/speed/fit.py --busy). They
# are too small for a GPU as well: a fit of this size takes a core some three seconds, about as long
# as CUDA takes to start. This is reasoned: the part "fit" of benchmarks/speed/cuda.py measures it.
SMALL_PRODUCT = 10**9
_n_single = 0  # number of threads in `threads_for` with small work
_former_threads = 1  # PyTorch's number of threads before the first of them
_blas_limit = threading.Lock()  # held by the thread that limits BLAS
_this_thread = threading.local()  # has `is_single` in `threads_for` with small work

_has_computed = False


def _after_fork():
    # The threads of OpenMP do not exist in a forked child, which would wait for them forever.
    if _has_computed:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def resolve_device(device, metal=False):
    """Turn ``"auto"``, ``"cpu"``, ``"cuda:1"``, ... into a usable :class:`torch.device`.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` uses CUDA if available, otherwise the CPU.
    metal : bool
        Whether ``"auto"`` may use the GPU of a Mac, which lacks the float64 of the classifier.

    Returns
    -------
    device : torch.device
        With the index of the GPU; ``"cuda"`` is PyTorch's current one.

    Raises
    ------
    DeviceNotAvailableError
        If the name is not a device, or this machine does not have the device.
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            current = _current_cuda_device()
            reason = _why_too_old(current)
            if reason is None:
                return current
            warn_user(f"The CPU is used, since {reason}.")
        return torch.device("mps" if metal and torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceNotAvailableError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<index>', got {device!r}."
        ) from error
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= n_devices:
            raise DeviceNotAvailableError(
                f"device={device!r} is not available: {_present_cards(n_devices)}. Use "
                "device='auto' to use CUDA only where it is available, or device='cpu'."
            )
        card = _current_cuda_device() if resolved.index is None else resolved
        reason = _why_too_old(card)
        if reason is not None:
            raise DeviceNotAvailableError(
                f"device={device!r} is not available: {reason}. Install an earlier PyTorch, or use "
                "device='cpu'."
            )
        return card
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceNotAvailableError(
            f"device={device!r} is not available: PyTorch finds no Metal device. Use device='auto'."
        )
    return resolved


def device_for(device, n_multiplications):
    """The device for arithmetic of a size: ``"auto"`` leaves small work to the CPU.

    Parameters
    ----------
    device : str or torch.device
        See :func:`resolve_device`.
    n_multiplications : int
        Of the largest product of matrices.

    Returns
    -------
    device : torch.device
    """
    is_small = isinstance(device, str) and device == "auto" and n_multiplications <= SMALL_PRODUCT
    return torch.device("cpu") if is_small else resolve_device(device)


def _current_cuda_device():
    # Asking for the current device would start CUDA, whose default is the first one.
    return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_initialized() else 0)


def _present_cards(n_devices):
    if n_devices:
        names = "'cuda:0'" if n_devices == 1 else f"'cuda:0' to 'cuda:{n_devices - 1}'"
        return f"PyTorch finds only {names}"
    if not torch.backends.cuda.is_built():
        return "this build of PyTorch does not support CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible!r} contains no GPU of this machine"
    return "PyTorch finds no NVIDIA GPU with a working driver"


def _why_too_old(card):
    """Why PyTorch has no code for a GPU, or None if it has, as far as is known without CUDA."""
    built_for = re.findall(r"(?:sm|compute)_(\d+)", str(torch.cuda.get_arch_list()))
    known = _capabilities_in_machine()
    if torch.cuda.is_initialized():
        known = frozenset([torch.cuda.get_device_capability(card)])
    newest = max(known, default=None)
    oldest = min((divmod(int(digits), 10) for digits in built_for), default=None)
    if newest is None or oldest is None or newest >= oldest:
        return None
    return (
        f"the GPU has compute capability {newest[0]}.{newest[1]}, and this build of PyTorch needs "
        f"at least {oldest[0]}.{oldest[1]}"
    )


def fastest_precision(device, prefer_bf16=False):
    """The fastest number format that a device supports natively.

    Parameters
    ----------
    device : torch.device
    prefer_bf16 : bool
        Whether the model needs the range of bfloat16 on a GPU.

    Returns
    -------
    precision : {"fp32", "bf16", "fp16"}
    """
    if device.type == "cuda":
        # Native float16 began with Volta, bfloat16 with Ampere; earlier, float16 is not faster.
        generation = _generation(device)
        if prefer_bf16:
            return "bf16" if generation >= 8 else "fp32"
        return "fp16" if generation >= 7 else "fp32"
    if device.type == "mps":
        return "fp32" if prefer_bf16 else "fp16"
    if device.type == "cpu" and cpu_has_bf16():
        return "bf16"
    return "fp32"


def _generation(device):
    """The first number of the compute capability of a GPU, if possible without starting CUDA.

    CUDA takes seconds and hundreds of megabytes to start, and does not work after a fork. None of
    this is needed if all images are cached, or if other processes encode them.
    """
    if not torch.cuda.is_initialized():
        generations = {major for major, _ in _capabilities_in_machine()}
        if len(generations) == 1:
            return min(generations)
    return torch.cuda.get_device_capability(device)[0]


@functools.cache
def _capabilities_in_machine():
    """Compute capabilities of all NVIDIA GPUs, from the driver's library; empty if unknown."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return frozenset()
    capabilities = set()
    n_cards, card = ctypes.c_uint(), ctypes.c_void_p()
    major, minor = ctypes.c_int(), ctypes.c_int()
    # Every function returns 0 on success.
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(n_cards)):
        return frozenset()
    for i in range(n_cards.value):
        if nvml.nvmlDeviceGetHandleByIndex_v2(
            i, ctypes.byref(card)
        ) or nvml.nvmlDeviceGetCudaComputeCapability(
            card, ctypes.byref(major), ctypes.byref(minor)
        ):
            return frozenset()
        capabilities.add((major.value, minor.value))
    return frozenset(capabilities)


def cpu_has_bf16():
    """Whether the processor multiplies bfloat16 natively, with AMX or AVX-512 BF16."""
    # Private, and not in every version of PyTorch; without them, float32 is a safe choice.
    names = ["_is_amx_tile_supported", "_is_avx512_bf16_supported"]
    tests = [getattr(torch.cpu, name, lambda: False) for name in names]
    return torch.backends.mkldnn.is_available() and any(test() for test in tests)


def is_out_of_memory(error):
    """Whether an error says that the memory of a GPU, or pinned memory for it, is exhausted.

    Only PyTorch's own allocator has a class of errors for this.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(text in message for text in OUT_OF_MEMORY)


@contextmanager
def explained_out_of_memory(device):
    """Turn an error of too little memory on a CUDA device into one that says what to do.

    Parameters
    ----------
    device : torch.device
    """
    try:
        yield
    except RuntimeError as error:
        if device.type != "cuda" or not is_out_of_memory(error):
            raise
        free, total = torch.cuda.mem_get_info(device)
        raise torch.cuda.OutOfMemoryError(
            f"The GPU {str(device)!r} has too little memory: {free / 1e9:.1f} of {total / 1e9:.1f} "
            "GB are free. Close other programs that use it, or set device='cpu'."
        ) from error


@contextmanager
def exact_matmul(device):
    """Multiply in the precision of the tensors, without TF32 on CUDA and without autocast.

    Autocast belongs to a thread. The settings for CUDA belong to the process: they change when the
    first thread enters, and are restored when the last one leaves.

    Parameters
    ----------
    device : torch.device
    """
    global _has_computed
    _has_computed = True
    with torch.autocast(device.type, enabled=False) if _has_autocast(device) else nullcontext():
        with _without_tf32() if device.type == "cuda" else nullcontext():
            with explained_out_of_memory(device):
                yield


def _has_autocast(device):
    return torch.amp.autocast_mode.is_autocast_available(device.type)


@contextmanager
def _without_tf32():
    global _n_exact, _former
    with _settings:
        if _n_exact == 0:
            _former = _precision(), torch.backends.cudnn.deterministic
            _set_precision(EXACT, True)
        _n_exact += 1
    try:
        yield
    finally:
        with _settings:
            _n_exact -= 1
            if _n_exact == 0:
                _set_precision(*_former)


def _precision():
    """PyTorch's precision of float32 in matrix products and in convolutions on CUDA."""
    if HAS_FP32_PRECISION:
        return tuple(setting.fp32_precision for setting in _precision_settings())
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def _set_precision(precision, deterministic):
    torch.backends.cudnn.deterministic = deterministic
    if not HAS_FP32_PRECISION:  # pragma: no cover - needs PyTorch before 2.9
        matmul, torch.backends.cudnn.allow_tf32 = precision
        torch.set_float32_matmul_precision(matmul)
        return
    for setting, value in zip(_precision_settings(), precision, strict=True):
        setting.fp32_precision = "none"  # follows the setting of all of CUDA, as before
        if setting.fp32_precision != value:
            setting.fp32_precision = value


def _precision_settings():
    cudnn: Any = torch.backends.cudnn  # whose annotations do not name its settings
    return torch.backends.cuda.matmul, cudnn.conv


@contextmanager
def threads_for(n_multiplications):
    """Compute in one thread if the products are small: several would wait for a busy processor.

    The numbers of threads belong to the process. Every thread restores that of PyTorch to what it
    was before the first one entered. One thread at a time limits BLAS and restores its number,
    because the limits of threadpoolctl only nest within a thread.

    Parameters
    ----------
    n_multiplications : int
        Of the largest product of matrices.
    """
    global _n_single, _former_threads
    if n_multiplications > SMALL_PRODUCT or getattr(_this_thread, "is_single", False):
        yield
        return
    with _settings:
        if _n_single == 0:
            _former_threads = torch.get_num_threads()
        _n_single += 1
        former = _former_threads
    _set_threads(1)
    _this_thread.is_single = True
    try:
        with _one_blas_thread():
            yield
    finally:
        _this_thread.is_single = False
        _set_threads(former)  # OpenMP keeps a number for every thread
        with _settings:
            _n_single -= 1


@contextmanager
def _one_blas_thread():
    if not _blas_limit.acquire(blocking=False):
        yield
        return
    try:
        with _blas_libraries().limit(limits=1):
            yield
    finally:
        _blas_limit.release()


def in_threads_for_data(function):
    """Decorate a function of a training set, its first argument, with :func:`threads_for`."""

    @functools.wraps(function)
    def wrapped(data, *args, **kwargs):
        with threads_for(multiplications(data)):
            return function(data, *args, **kwargs)

    return wrapped


def multiplications(data):
    """Multiplications in the largest product of matrices of a training set."""
    n_samples, n_features = data.X.shape
    return max(n_samples, data.n_classes) * n_features * max(n_features, data.n_classes)


@functools.cache
def _blas_libraries():
    # Finding the loaded libraries takes milliseconds.
    return ThreadpoolController().select(user_api="blas")


def _set_threads(n_threads):
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)


@contextmanager
def seeded_defaults(seed):
    """Set PyTorch's own defaults, and a seed, for modules that are created inside, on the CPU.

    New modules use the default number format and device, and random numbers from the generator of
    the process. All are restored at the end. Only one thread can be inside.

    Parameters
    ----------
    seed : int
    """
    generator = torch.random.fork_rng(devices=[])
    with _defaults, generator, torch.device("cpu"), torch.inference_mode(False):
        former = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_default_dtype(former)
