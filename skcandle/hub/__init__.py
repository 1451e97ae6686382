"""Fitted pipelines as folders with a model card, and on the Hugging Face Hub."""

from ._folder import load_pipeline, save_pipeline
from ._transfer import push_to_hub

__all__ = ["load_pipeline", "push_to_hub", "save_pipeline"]
