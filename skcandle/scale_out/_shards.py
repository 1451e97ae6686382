"""A folder of Parquet files, each of which is complete or does not exist."""

import json
import os
import socket
from pathlib import Path
from uuid import uuid4

# Readers of Parquet folders ignore names that begin with an underscore.
MANIFEST_NAME = "_skcandle.json"
RUN_NAME = "_run"
FACTS_FIELD = b"skcandle"
FAILURES_FIELD = b"skcandle.failures"


class ShardFolder:
    """Parts of a data set, and the facts that they all share.

    Parameters
    ----------
    path : str or path-like
    """

    def __init__(self, path):
        # Absolute, because a worker process may have another working directory.
        self.path = Path(path).expanduser().absolute()

    def open(self, facts, remedy):
        """Create the folder, or check that its parts have the same facts.

        Parameters
        ----------
        facts : dict of str to str, int or bool
            What the parts were computed from; they are written into each part. An error names
            the first that differs. "model" is only for messages: it may contain a path and differ
            between machines.
        remedy : str
            What to do if the folder has other facts.

        Returns
        -------
        facts : dict
            The facts of the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / MANIFEST_NAME).exists():
            found = self.facts()
            for name in facts:
                if name != "model" and found.get(name) != facts[name]:
                    raise ValueError(
                        f"The folder {str(self.path)!r} has {_shown(found, name)}, not "
                        f"{_shown(facts, name)}. {remedy}"
                    )
            facts = found
        elif self.part_names():
            raise ValueError(
                f"The folder {str(self.path)!r} has Parquet files that skcandle did not write. Use "
                "an empty folder."
            )
        else:
            self.write_file(MANIFEST_NAME, lambda file: file.write(json.dumps(facts).encode()))
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
        """The facts of the first call of :meth:`open`."""
        try:
            return json.loads(_no_pipe(self.path / MANIFEST_NAME).read_bytes())
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The folder {str(self.path)!r} on {socket.gethostname()!r} is not a data set of "
                "skcandle. Check its name; if another machine has it, put it on a file system that "
                "all machines share."
            ) from error

    def part_names(self, run="*"):
        """Sorted names of the parts of one run, or of all runs."""
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

        def write(file):
            pq.write_table(table, file, **options)
            if (self.path / RUN_NAME).read_text() != run:
                raise ValueError(
                    f"A later call writes to {str(self.path)!r}, so this call must stop."
                )

        self.write_file(name, write)

    def read_part(self, name, columns):
        """Read a part: its table, its facts and its failures."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.path / name, columns=columns, partitioning=None)
            metadata = table.schema.metadata
            facts = json.loads(metadata[FACTS_FIELD])
            failures = [tuple(failure) for failure in json.loads(metadata[FAILURES_FIELD])]
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(self.path / name)!r} cannot be read ({type(error).__name__}: {error}). "
                "Remove it and run the job again, which computes its rows again."
            ) from error
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
        import pyarrow.parquet as pq

        return pq.read_metadata(self.path / name).num_rows

    def write_file(self, name, write):
        """Write a file under a temporary name, and rename it when it is on disk."""
        temporary = self.path / f"_tmp-{uuid4().hex}"
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


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
