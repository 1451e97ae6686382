"""The command ``skcandle``: a folder of photos in, answers out; see ``skcandle --help``."""

from ._app import main

__all__ = ["main"]
