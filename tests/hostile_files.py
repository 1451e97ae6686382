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


def rewritten(data, *, schema=None, members=None, compression=zipfile.ZIP_STORED):
    """A skops file with changes.

    Parameters
    ----------
    data : bytes
    schema : callable or str, default=None
        What changes the schema in place, or its text.
    members : callable, default=None
        From the name and the content of each other member to the content.
    compression : int
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    text = contents.pop("schema.json").decode()
    if callable(schema):
        value = json.loads(text)
        schema(value)
        text = json.dumps(value)
    elif schema is not None:
        text = schema
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", compression) as archive:
        archive.writestr("schema.json", text)
        for name, content in contents.items():
            archive.writestr(name, members(name, content) if members else content)
    return changed.getvalue()


def nodes_of(schema):
    """All nodes of a schema, from the root on."""
    found = [schema]
    for node in found:
        values = node.values() if isinstance(node, dict) else node
        found += [value for value in values if isinstance(value, (dict, list))]
    return [node for node in found if isinstance(node, dict) and "__loader__" in node]
