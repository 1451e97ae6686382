"""A folder of Parquet files, each of which is there as a whole or not at all."""

import json
import os
import socket
from pathlib import Path
from uuid import uuid4

# Names with an underscore in front are not data to those who read folders of Parquet files.
MANIFEST_NAME = "_skcandle.json"
RUN_NAME = "_run"
FACTS_FIELD = b"skcandle"
FAILURES_FIELD = b"skcandle.failures"


class ShardFolder:
    """Parts of a data set, with the facts that all of them have in common.

    Parameters
    ----------
    path : str or path-like
    """

    def __init__(self, path):
        # Absolute, since a worker process may have another working directory.
        self.path = Path(path).expanduser().absolute()

    def open(self, facts, remedy):
        """Make the folder, or check that it holds what is to be added to.

        Parameters
        ----------
        facts : dict of str to str, int or bool
            What the parts were made from. They are written into each of them. Of those that
            differ, the error names the first. "model" is a name for messages, which may hold a
            path and differ between machines.
        remedy : str
            What to do if the folder has others.

        Returns
        -------
        facts : dict
            Those of the folder.
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
                f"The folder {str(self.path)!r} has Parquet files of another origin. Use an empty "
                "folder."
            )
        else:
            self.write_file(MANIFEST_NAME, lambda file: file.write(json.dumps(facts).encode()))
        return facts

    def start_run(self):
        """Let nobody write parts but those who are told what this returns.

        A call that was interrupted may leave tasks behind that run to their end. If they wrote
        parts after the next call has listed what there is, images would be stored twice.

        Returns
        -------
        run : str
        """
        run = uuid4().hex[:8]
        self.write_file(RUN_NAME, lambda file: file.write(run.encode()))
        # Of tasks of earlier runs, and of killed ones. It has to come second: a task that found
        # its run in the file before, and has not given its part its name yet, is stopped here.
        for leftover in self.path.glob("_tmp-*"):
            leftover.unlink(missing_ok=True)
        return run

    def facts(self):
        """What :meth:`open` was called with at first."""
        try:
            return json.loads(_no_pipe(self.path / MANIFEST_NAME).read_bytes())
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The folder {str(self.path)!r}, seen from {socket.gethostname()!r}, is no data "
                "set of skcandle. Check its name; if other machines have it, put it on a file "
                "system that all of them share."
            ) from error

    def part_names(self, run="*"):
        """Names of the parts, sorted; of one run of the job, or of all."""
        return sorted(_no_pipe(path).name for path in self.path.glob(f"part-{run}-*.parquet"))

    def write_part(self, name, run, facts, columns, failures=()):
        """Write a part; a process that is killed meanwhile leaves no trace in the data set.

        Parameters
        ----------
        name : str
        run : str
            What :meth:`start_run` has returned.
        facts : dict
        columns : dict of str to pyarrow.Array
        failures : list of (str, str)
            Keys that are not in the part, with the reasons.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        metadata = {
            FACTS_FIELD: json.dumps(facts).encode(),
            FAILURES_FIELD: json.dumps(list(failures)).encode(),
        }
        table = pa.table(columns).replace_schema_metadata(metadata)
        # The bytes of floats compress by place only, not as they are: 17 % are saved.
        split = [_leaf_path(field) for field in table.schema if _holds_floats(field.type)]
        options = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": split}

        def write(file):
            pq.write_table(table, file, **options)
            if (self.path / RUN_NAME).read_text() != run:
                raise ValueError(
                    f"A later call writes to {str(self.path)!r}, so this one has to stop."
                )

        self.write_file(name, write)

    def read_part(self, name, columns):
        """A part as a table, with the failures noted in it."""
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
                "Remove it and run the job again: its rows are then computed anew."
            ) from error
        return table, facts, failures

    def read_keys(self, name, facts):
        """Keys of a part, after a check that it belongs here."""
        table, found, _ = self.read_part(name, ["key"])
        if found != facts:
            raise ValueError(
                f"{str(self.path / name)!r} was made from {found}, all else in its folder from "
                f"{facts}. Remove it."
            )
        return table["key"].to_pylist()

    def n_rows(self, name):
        import pyarrow.parquet as pq

        return pq.read_metadata(self.path / name).num_rows

    def write_file(self, name, write):
        """Write a file under a temporary name, and give it its own when it is safe on disk."""
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
    """The path, unless reading it would wait for somebody who writes."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} is no file. Remove it and run the job again.")
    return path


def _leaf_path(field):
    return f"{field.name}.list.element" if hasattr(field.type, "value_type") else field.name


def _shown(facts, name):
    model = f" ({facts['model']})" if "model" in facts else ""
    return f"{name} {facts.get(name)!r}{model}"
