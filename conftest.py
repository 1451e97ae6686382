"""Doctests of modules whose extras are not installed are left out."""

from importlib.util import find_spec

NEEDED = ["dask", "distributed", "pyarrow"]
collect_ignore = [] if all(map(find_spec, NEEDED)) else ["skcandle/scale_out/_dataset.py"]
