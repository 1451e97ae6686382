"""The journal: a file to which every action is appended before it counts."""

import errno
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

FORMAT, VERSION = "skcandle labelling journal", 1


class Journal:
    """Actions on the labels of one folder, as lines of JSON in a file that only grows.

    Its first line names the folder. The folder is locked until :meth:`close`; the system also
    unlocks it when the process ends in any way.

    Parameters
    ----------
    path : Path
        Created if it does not exist.
    folder : Path
        The folder of the images.

    Raises
    ------
    BlockingIOError
        If another process labels the folder.
    ValueError
        If the file is not a journal, is of a newer version or of another folder, or is damaged.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, folder = Path(path), Path(folder).resolve()
        with ExitStack() as stack:
            stack.callback(os.close, _locked(folder, self.path))
            self._file = stack.enter_context(open(path, "a+b", buffering=0))
            self.actions: list[dict[str, Any]] = self._read(folder)
            self._open = stack.pop_all()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._file.closed

    def close(self) -> None:
        """Close the file, and unlock the folder."""
        self._open.close()

    def append(self, action: dict[str, Any]) -> None:
        """Add an action, and return when it is on the disk.

        After an OSError, such as that of a full disk, the file is as before.
        """
        if self.is_closed:
            raise ValueError("The journal is closed.")
        file = self._file.fileno()
        if os.fstat(file).st_size != self._size:
            raise OSError(
                f"The journal {str(self.path)!r} was changed by another program. Start the command "
                "again."
            )
        line = data = json.dumps(action, separators=(",", ":")).encode() + b"\n"
        try:
            while data:  # a disk that fills up may take some of it first
                data = data[os.write(file, data) :]
            os.fsync(file)
        except BaseException as error:
            os.ftruncate(file, self._size)  # frees what was written of the line
            if not isinstance(error, OSError):
                raise
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise type(error)(
                f"Nothing was stored, because {str(self.path)!r} cannot be written: {reason}."
            ) from error
        self._size += len(line)

    def damaged(self, line: int) -> ValueError:
        """The error for a line that cannot be understood."""
        what = "is not a journal of labels" if line == 1 else f"is damaged in line {line}"
        return ValueError(f"{str(self.path)!r} {what}. Rename it, or choose another file with -o.")

    def _read(self, folder):
        self._file.seek(0)
        content = self._file.read()
        complete, _, torn = content.rpartition(b"\n")
        self._size = len(content) - len(torn)
        if torn:  # the process ended while it wrote this line
            self._file.truncate(self._size)
        if not complete:
            self.append({"format": FORMAT, "version": VERSION, "folder": os.fspath(folder)})
            _sync_folder(self.path.parent)
            return []
        header, *actions = [self._parsed(*line) for line in enumerate(complete.split(b"\n"), 1)]
        self._check_header(header, folder)
        return actions

    def _parsed(self, number, line):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise self.damaged(number)
        return entry

    def _check_header(self, header, folder):
        path = str(self.path)
        if header.get("format") != FORMAT or not isinstance(header.get("version"), int):
            raise self.damaged(1)
        if header["version"] > VERSION:
            raise ValueError(
                f"The journal {path!r} was written by a newer version of skcandle; install that "
                "version, or choose another file with -o."
            )
        if header.get("folder") != os.fspath(folder):
            raise ValueError(
                f"The journal {path!r} belongs to the folder {header.get('folder')!r}, not to "
                f"{os.fspath(folder)!r}. Choose another file with -o or, if the folder was moved, "
                "change its name in the first line of the journal."
            )


def _locked(folder, path):
    """A handle that locks a folder, in which nothing is written, until it is closed."""
    if sys.platform == "win32":  # pragma: no cover - it cannot lock folders
        import msvcrt

        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        lock, arguments = msvcrt.locking, (msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        lock, arguments = fcntl.flock, (fcntl.LOCK_EX | fcntl.LOCK_NB,)
    try:
        lock(handle, *arguments)
    except OSError as error:
        os.close(handle)
        raise BlockingIOError(
            f"Another process is labelling the folder {os.fspath(folder)!r}. Use its page, or stop "
            "it first."
        ) from error
    return handle


def _sync_folder(folder):
    """Make the name of a new file survive a power failure."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
