"""Fitted pipelines as folders with a model card, and on the Hugging Face Hub."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:  # loaded when first used: the command reads model files without them
    from ._folder import load_pipeline, save_pipeline
    from ._transfer import push_to_hub

__all__ = ["load_pipeline", "push_to_hub", "save_pipeline"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"load_pipeline": "_folder", "push_to_hub": "_transfer", "save_pipeline": "_folder"},
)
