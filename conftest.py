"""Skips doctests of modules whose optional dependencies are not installed."""

from importlib.util import find_spec

NEEDED = ["dask", "distributed", "pyarrow"]
collect_ignore = [] if all(map(find_spec, NEEDED)) else ["skcandle/scale_out/_dataset.py"]
if not find_spec("matplotlib"):
    displays = ["base_new_curve", "long_tail", "prediction_grid", "prototype_map", "reliability"]
    collect_ignore += [f"skcandle/inspection/_{name}.py" for name in displays]
