"""Public names of a package that are imported when they are first used (PEP 562)."""

import sys
from importlib import import_module


def lazy_names(package, origins):
    """Make the ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        The ``__name__`` of the package.
    origins : dict of str to str
        The module that has each public name; for a module, its own name.

    Returns
    -------
    getter, lister : callable
    """

    def getter(name):
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{origins[name]}")
        value = module if name == origins[name] else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def lister():
        return sorted({*vars(sys.modules[package]), *origins})

    return getter, lister
