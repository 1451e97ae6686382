"""From the ``device`` parameter of the estimators to a torch device, and arithmetic on it."""

from contextlib import contextmanager

import torch

from ._locks import ForkSafeLock
from .exceptions import DeviceNotAvailableError

_settings = ForkSafeLock()
_n_exact, _former = 0, None  # threads in `exact_matmul`, and the settings before the first


def resolve_device(device):
    """Turn ``"auto"``, ``"cpu"``, ``"cuda:1"``, ... into a usable :class:`torch.device`.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA where it is available, otherwise the CPU.

    Returns
    -------
    device : torch.device

    Raises
    ------
    DeviceNotAvailableError
        If the name is no device, or the device is not there.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceNotAvailableError(
            f"device={device!r} is not a device. Use 'auto', 'cpu', 'cuda' or 'cuda:<index>'."
        ) from error
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= n_devices:
            raise DeviceNotAvailableError(
                f"device={device!r} was asked for, but there are {n_devices} CUDA devices here. "
                "Use device='auto' to take CUDA only where it is available, or device='cpu'."
            )
    elif resolved.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceNotAvailableError(
            f"device={device!r} was asked for, but Metal is not available here. Use device='auto'."
        )
    return resolved


@contextmanager
def exact_matmul(device):
    """Do not round float32 to TF32 on CUDA, so that a GPU gives what a CPU gives.

    The settings belong to the process: they change when the first thread enters, and change back
    when the last one leaves.

    Parameters
    ----------
    device : torch.device
    """
    global _n_exact, _former
    if device.type != "cuda":
        yield
        return
    with _settings:
        if _n_exact == 0:
            cudnn = torch.backends.cudnn
            _former = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic
            _set_precision("highest", False, True)
        _n_exact += 1
    try:
        yield
    finally:
        with _settings:
            _n_exact -= 1
            if _n_exact == 0:
                _set_precision(*_former)


def _set_precision(matmul, allow_tf32, deterministic):
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = allow_tf32  # of convolutions
    torch.backends.cudnn.deterministic = deterministic
