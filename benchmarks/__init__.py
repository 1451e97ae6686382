"""What the library achieves and costs, by command; README.rst in this folder has the list.

Run each module from the root of the repository, as in ``python -m benchmarks.speed.imports``.
"""
