"""Imports inside the library go down its layers."""

import ast
from collections import defaultdict
from importlib.util import resolve_name
from pathlib import Path

import pytest

import skcandle

ROOT = Path(skcandle.__file__).parent
# From top to bottom. A room imports only from layers below its own.
LAYERS = [
    ["__main__"],
    ["labelling"],
    ["cli", "batch_inference"],
    ["hub"],
    ["inspection", "scale_out", "export", "pipeline"],
    ["classifier"],
    ["clip"],
    ["datasets"],
    ["_image_files"],
    ["metrics", "model_selection", "_images"],
    ["_labels", "_devices", "_earlier_fit", "_persistence"],
    ["_sklearn_private", "_warnings", "exceptions", "_files", "_locks", "_typing"],
    ["_bundled", "_embeddings", "_documentation", "_lazy", "_version"],
]
HEIGHTS = {room: -depth for depth, rooms in enumerate(LAYERS) for room in rooms}


def is_for_type_checkers(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes_that_run(tree):
    """All nodes, those inside functions too, except what only type checkers read."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if is_for_type_checkers(child):
            for node in child.orelse:
                yield from nodes_that_run(node)
        else:
            yield from nodes_that_run(child)


def imported_modules(source, package):
    """Full names of what the source of a module in a package imports.

    For ``from a import b``, that is ``a.b``, which may be a module or a name in the module ``a``.
    """
    for node in nodes_that_run(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module):
    """The first part of a name below the library, or None for modules of others."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "skcandle" else None


def imports_between_rooms():
    """For each room, the rooms that it imports and the files that do so."""
    found = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if parts == ("skcandle", "__init__"):
            continue  # makes public names of all rooms available; it loads them on first use
        for module in imported_modules(path.read_text(encoding="utf-8"), ".".join(parts[:-1])):
            room = room_of(module)
            if room is not None and room != parts[1]:
                found[parts[1], room].add(str(path.relative_to(ROOT)))
    return found


def test_every_room_has_a_layer():
    rooms = {
        path.stem for path in ROOT.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))
    }
    assert rooms - {"__init__"} == set(HEIGHTS)


def test_every_import_goes_down():
    found = imports_between_rooms()
    assert {
        pair: files for pair, files in found.items() if HEIGHTS[pair[0]] <= HEIGHTS[pair[1]]
    } == {}


def test_the_package_itself_imports_only_what_is_at_the_bottom():
    source = (ROOT / "__init__.py").read_text(encoding="utf-8")
    rooms = {room_of(module) for module in imported_modules(source, "skcandle")}
    assert rooms - {None} <= {*LAYERS[-1]}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    from ..hub import load_pipeline", {"hub"}),
        ("class A:\n    def f(self):\n        import skcandle.cli._app", {"cli"}),
        ("from .. import _files, hub", {"_files", "hub"}),
        ("from ._model import CandleModel", {"classifier"}),
        ("if TYPE_CHECKING:\n    from ..hub import load_pipeline", set()),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    from ..cli import main", {"cli"}),
    ],
)
def test_imports_are_found_wherever_they_stand(source, found):
    rooms = {room_of(module) for module in imported_modules(source, "skcandle.classifier")}
    assert rooms - {None} == found
