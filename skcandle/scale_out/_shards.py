"""A folder of Parquet files, each of which is complete or does not exist."""

import io
import json
import os
import socket
from contextlib import contextmanager
from uuid import uuid4
from zlib import crc32

from .._images.urls import is_remote
from ._folders import as_folder

# Readers of Parquet folders ignore names that begin with an underscore.
MANIFEST_NAME = "_skcandle.json"
RUN_NAME = "_run"
ID = "folder"  # in the manifest only: a random name, which stays when the folder is moved
FACTS_FIELD = b"skcandle"
FAILURES_FIELD = b"skcandle.failures"


class ShardFolder:
    """Parts of a data set, and the facts that they all share.

    Parameters
    ----------
    path : str or path-like
        A path or a URL.
    """

    def __init__(self, path):
        self.is_remote = is_remote(path)
        self.path = as_folder(path)

    def open(self, facts, remedy):
        """Create the folder, or check that its parts have the same facts.

        Parameters
        ----------
        facts : dict of str to str, int, bool or dict
            What the parts were computed from; they are written into each part. An error names
            the first that differs. "model" and "clip" are not compared: their names may contain a
            path and differ between machines, and "fingerprint" says the same.
        remedy : str
            What to do if the folder has other facts.

        Returns
        -------
        facts : dict
            The same facts, with the "model" and "clip" of the call that created the folder, which
            has no "clip" if it is of an earlier version.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / MANIFEST_NAME).exists():
            found = self.facts()
            for name in facts:
                if name not in ("model", "clip") and found.get(name) != facts[name]:
                    raise ValueError(
                        f"The folder {str(self.path)!r} has {_shown(found, name)}, not "
                        f"{_shown(facts, name)}. {remedy}"
                    )
            facts = {name: found[name] for name in facts if name in found}
        elif self.part_names():
            raise ValueError(
                f"The folder {str(self.path)!r} has Parquet files that skcandle did not write. Use "
                "an empty folder."
            )
        else:
            manifest = json.dumps(facts | {ID: uuid4().hex}).encode()
            self.write_file(MANIFEST_NAME, lambda file: file.write(manifest))
        return facts

    def start_run(self):
        """Start a run, after which only its own tasks can write parts.

        An interrupted call may leave tasks that continue to run. If they wrote parts after the next
        call has listed the stored keys, images would be stored twice.

        Returns
        -------
        run : str
        """
        run = uuid4().hex[:8]
        self.write_file(RUN_NAME, lambda file: file.write(run.encode()))
        # Remove files of earlier runs and of killed tasks. This must come second: it also stops a
        # task that has found its run in the file but has not renamed its part yet.
        for leftover in self.path.glob("_tmp-*"):
            leftover.unlink(missing_ok=True)
        return run

    def facts(self):
        """The facts of the first call of :meth:`open`, and the ID of the folder."""
        path = self.path / MANIFEST_NAME
        try:
            return json.loads(self.read_file(MANIFEST_NAME))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The folder {str(self.path)!r} on {socket.gethostname()!r} is not a data set of "
                "skcandle. Check its name; if another machine has it, put it on a file system that "
                "all machines share."
            ) from error
        except ValueError as error:
            if not path.is_file():
                raise
            raise ValueError(
                f"{str(path)!r} is damaged ({error}). Restore it, or use another folder."
            ) from error

    def part_names(self, run="*"):
        """Sorted names of the parts of one run, or of all runs."""
        if self.is_remote:
            self.path.fs.invalidate_cache()  # it may have a list from before
            return sorted(path.name for path in self.path.glob(f"part-{run}-*.parquet"))
        return sorted(_no_pipe(path).name for path in self.path.glob(f"part-{run}-*.parquet"))

    def write_part(self, name, run, facts, columns, failures=()):
        """Write a part; a killed process leaves no partial file in the data set.

        Parameters
        ----------
        name : str
        run : str
            As returned by :meth:`start_run`.
        facts : dict
        columns : dict of str to pyarrow.Array
        failures : list of (str, str)
            Keys of images that could not be read, with the reasons.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        metadata = {
            FACTS_FIELD: json.dumps(facts).encode(),
            FAILURES_FIELD: json.dumps(list(failures)).encode(),
        }
        table = pa.table(columns).replace_schema_metadata(metadata)
        # Bytes of floats compress only when split by their position in a float; this saves 17 %.
        split = [_leaf_path(field) for field in table.schema if _holds_floats(field.type)]
        options = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": split}
        options["write_page_checksum"] = True

        def write(file):
            pq.write_table(table, file, **options)
            _seal_footer(file)
            self._check_run(run)

        self.write_file(name, write)
        if self.is_remote:  # where the next call cannot stop a file that is being written
            try:
                self._check_run(run)
            except ValueError:
                (self.path / name).unlink(missing_ok=True)
                raise

    def _check_run(self, run):
        if self.read_file(RUN_NAME).decode() != run:
            raise ValueError(f"A later call writes to {str(self.path)!r}, so this call must stop.")

    def read_part(self, name, columns):
        """Read a part, and verify its checksums: its table, its facts and its failures."""
        import pyarrow.parquet as pq

        path = self.path / name
        with _names_damaged(path), path.open("rb") as file:
            _check_footer(file)
            table = pq.read_table(
                file, columns=columns, partitioning=None, page_checksum_verification=True
            )
            n_rows = pq.read_metadata(file).num_rows
            if table.column_names != columns or table.num_rows != n_rows:
                raise ValueError(f"it must have {n_rows} rows of {columns}, got {table.shape}")
            metadata = table.schema.metadata
            facts = json.loads(metadata[FACTS_FIELD])
            failures = [(key, reason) for key, reason in json.loads(metadata[FAILURES_FIELD])]
        return table, facts, failures

    def read_keys(self, name, facts):
        """Keys of a part, after a check of its facts."""
        table, found, _ = self.read_part(name, ["key"])
        if found != facts:
            raise ValueError(
                f"{str(self.path / name)!r} was computed from {found}, but the other files in its "
                f"folder from {facts}. Remove it."
            )
        return table["key"].to_pylist()

    def n_rows(self, name):
        """Number of rows of a part, from its footer."""
        import pyarrow.parquet as pq

        path = self.path / name
        with _names_damaged(path), path.open("rb") as file:
            _check_footer(file)
            return pq.read_metadata(file).num_rows

    def read_file(self, name):
        """The bytes of a file that may change."""
        path = self.path / name
        return path.fs.cat_file(path.path) if self.is_remote else _no_pipe(path).read_bytes()

    def write_file(self, name, write):
        """Write a file that is complete or does not exist.

        A local file has a temporary name until it is on disk. An object store does the same by
        itself.
        """
        if self.is_remote:
            buffer = io.BytesIO()
            write(buffer)
            path = self.path / name
            path.fs.pipe_file(path.path, buffer.getvalue())
            return
        temporary = self.path / f"_tmp-{uuid4().hex}"
        try:
            with open(temporary, "w+b") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def _names_damaged(path):
    """Turn an error that damaged content causes into one that names the file and the remedy."""
    try:
        yield
    except Exception as error:  # PyArrow raises errors of any type on damaged data
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file system; it names the file
        raise ValueError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}). Remove it and run "
            "the job again, which computes its rows again."
        ) from error


# Parquet has checksums of pages but not of its footer, and a damaged footer may even abort PyArrow.
# Readers ignore what stands between the last page and the footer: this mark and a checksum.
FOOTER_MARK = b"SKCF"
N_SEAL = len(FOOTER_MARK) + 4


def _seal_footer(file):
    """Insert a checksum before the footer of a Parquet file that is open for reading, too."""
    footer = _footer(file)
    file.seek(-len(footer), os.SEEK_END)
    file.write(FOOTER_MARK + crc32(footer).to_bytes(4, "little") + footer)


def _check_footer(file):
    """Raise if the footer does not match its checksum; files of others have none."""
    footer = _footer(file)
    file.seek(-min(len(footer) + N_SEAL, file.tell()), os.SEEK_END)
    seal = file.read(N_SEAL)
    file.seek(0)
    if seal.startswith(FOOTER_MARK) and seal[-4:] != crc32(footer).to_bytes(4, "little"):
        raise ValueError("the checksum of its footer is wrong")


def _footer(file):
    """The footer of a Parquet file, including its length in four bytes and the magic number."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(n_bytes - 8, 0))
    n_footer = int.from_bytes(file.read(4), "little") + 8
    if n_footer > n_bytes:
        raise ValueError("it has no footer")
    file.seek(n_bytes - n_footer)
    return file.read()


def _holds_floats(dtype):
    import pyarrow as pa

    return pa.types.is_floating(getattr(dtype, "value_type", dtype))


def _no_pipe(path):
    """Return the path, or raise if it is a pipe, where reading would wait for a writer."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} must be a regular file. Remove it and run the job again.")
    return path


def _leaf_path(field):
    return f"{field.name}.list.element" if hasattr(field.type, "value_type") else field.name


def _shown(facts, name):
    model = f" ({facts['model']})" if "model" in facts else ""
    return f"{name} {facts.get(name)!r}{model}"
