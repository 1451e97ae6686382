"""The command ``skcandle``: from photos to predictions, without Python; see ``skcandle --help``."""

from ._app import main

__all__ = ["main"]
