"""Files that skops would never write."""

import io
import json
import zipfile

import skops.io


def file_that_calls(function, *args):
    """A skops file that calls a function when it is loaded."""
    call = {
        "__class__": function.__name__,
        "__module__": function.__module__,
        "__loader__": "ConstructorFromReduceNode",
    }
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(tuple(args)))) as archive:
        arguments = json.loads(archive.read("schema.json"))
    general = {key: arguments.pop(key) for key in ("protocol", "_skops_version")}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("schema.json", json.dumps({**call, **general, "content": arguments}))
    return data.getvalue()
