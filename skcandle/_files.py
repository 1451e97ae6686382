"""Files that are written whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path, temporary):
    """A temporary file that takes the name of `path` when the block ends without an error.

    Parameters
    ----------
    path : Path
    temporary : Path
        From :func:`new_file_beside`; gone when the block ends.

    Yields
    ------
    temporary : Path
    """
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def new_file_beside(path):
    """A new empty file in the folder of `path`, with its suffix and usual permissions."""
    handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=".skcandle-", dir=path.parent)
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp's are for the user alone
    return Path(name)
