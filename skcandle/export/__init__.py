"""Fitted classifiers as ONNX files, which run without Python or PyTorch."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:  # loaded when first used: `resize_and_crop` needs no PyTorch
    from ._onnx import to_onnx
    from ._pixels import resize_and_crop
    from ._skl2onnx import register_converters

__all__ = ["register_converters", "resize_and_crop", "to_onnx"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"register_converters": "_skl2onnx", "resize_and_crop": "_pixels", "to_onnx": "_onnx"},
)
