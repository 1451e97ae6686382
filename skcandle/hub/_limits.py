"""What a model file may take when it is read, checked before anything in it is created."""

import io
import json
import math
import zipfile

import numpy as np

# A file may be compressed, and a part may be used more than once. skops itself compresses nothing.
MAX_EXPANSION = 4
MIN_ALLOWED_BYTES = 16 * 2**20
MIN_ALLOWED_SCHEMA_BYTES = 2**20
MAX_DEPTH = 64  # fitted pipelines have 18
COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class RefusedFileError(ValueError):
    """Why a model file is not loaded, as the end of a sentence."""


def check_limits(data):
    """Check that the content of a file becomes no larger than its size allows.

    Parameters
    ----------
    data : bytes

    Raises
    ------
    RefusedFileError
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.compress_type not in COMPRESSIONS:  # others may expand without a limit
                raise RefusedFileError(f"its part {member.filename!r} has an unusual compression")
        schema = archive.getinfo("schema.json")
        allowed = max(len(data), MIN_ALLOWED_SCHEMA_BYTES)
        if schema.file_size > allowed:
            raise RefusedFileError(
                f"its description takes {schema.file_size:,} bytes; at most {allowed:,} are "
                "allowed for a file of this size"
            )
        parts = _Parts(archive, max(MAX_EXPANSION * len(data), MIN_ALLOWED_BYTES))
        _Nodes(parts).check(json.loads(archive.read(schema)))


class _Parts:
    """The arrays of an archive, and how many bytes those in use take."""

    def __init__(self, archive, allowed):
        self.archive = archive
        self.allowed = allowed
        self.n_bytes = 0
        self.checked = set()

    def use(self, name, loader):
        """Check a part; one that is used twice takes its memory twice."""
        part = self.archive.getinfo(name)
        self.n_bytes += part.file_size
        if self.n_bytes > self.allowed:
            raise RefusedFileError(
                f"its parts take more than {self.allowed:,} bytes, which is what a file of this "
                "size may take"
            )
        if name in self.checked:
            return
        self.checked.add(name)
        if loader == "NdArrayNode":
            self._check_array(part)
        elif loader not in ("BytesNode", "BytearrayNode"):  # sparse arrays have files inside them
            raise RefusedFileError(f"a fitted pipeline has no part {name!r} for a {loader}")

    def _check_array(self, part):
        with self.archive.open(part) as file:
            shape, _, dtype = READ_HEADER[np.lib.format.read_magic(file)](file)
            n_bytes = file.tell() + math.prod(shape) * dtype.itemsize
        # An array of empty items, or with a side of length zero, takes no bytes, whatever its size.
        sides_fit = all(0 <= side <= part.file_size for side in shape)
        if n_bytes != part.file_size or not dtype.itemsize or not sides_fit:
            raise RefusedFileError(
                f"its array {part.filename!r} has shape {shape} and type {dtype}, but "
                f"{part.file_size:,} bytes"
            )


class _Nodes:
    """The description of the objects in a file: one tree, without short cuts between branches."""

    def __init__(self, parts):
        self.parts = parts
        self.known = {}  # numbers of distinct values
        self.content_of = {}  # by the identity of an object

    def check(self, node, depth=0):
        """Check a node and all below it; equal nodes give the same number.

        skops writes an object that occurs twice in full both times. If a file could refer to it
        instead, thirty nested pairs would be a billion objects.
        """
        if depth > MAX_DEPTH:
            raise RefusedFileError(f"its objects are nested more than {MAX_DEPTH} deep")
        if isinstance(node, list):
            value = tuple(self.check(item, depth + 1) for item in node)
        elif isinstance(node, dict):
            value = self._check_mapping(node, depth)
        else:
            value = (type(node), node)
        return self.known.setdefault(value, len(self.known))

    def _check_mapping(self, node, depth):
        # In the mappings of the author, the values of these keys are nodes.
        identity, loader, file = (
            None if isinstance(node.get(key), (dict, list)) else node.get(key)
            for key in ("__id__", "__loader__", "file")
        )
        ignored = set() if identity is None else {"__id__"}
        if file is not None and loader is not None:
            self.parts.use(file, loader)
            if loader != "NdArrayNode":  # the name of its part is new each time
                ignored.add("file")
        value = frozenset(
            (key, self.check(item, depth + 1)) for key, item in node.items() if key not in ignored
        )
        if identity is not None and self.content_of.setdefault(identity, value) != value:
            raise RefusedFileError(f"it describes the object {identity!r} in two ways")
        return value
