"""Checks in separate environments: ``nox -s lint tests``, ``nox -s lowest newest``.

`lowest` installs the lowest versions that pyproject.toml allows, and `newest` the newest versions
on the package index, including pre-releases.
"""

import re
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
# With newer versions, the lowest versions of other packages fail: Matplotlib 3.7 uses what they
# deprecate.
LATEST_FOR_LOWEST = ["pyparsing<3.3"]
PROJECT = nox.project.load_toml("pyproject.toml")["project"]


def lower_bounds():
    """``name==version`` for each ``name>=version`` of the project and its extras."""
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    requirements = [*PROJECT["dependencies"], *extras]
    found = [re.fullmatch(r"([\w.-]+)(\[.*\])?>=([\w.]+)", line) for line in requirements]
    return sorted({f"{match[1]}=={match[3]}" for match in found if match})


@nox.session
def lint(session):
    """Style, format and types."""
    session.install(".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session
def tests(session):
    """The tests, with the versions that pip chooses. Further arguments go to pytest."""
    session.install(".[tests]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def docs(session):
    """The documentation with all examples; fails on warnings and broken links."""
    session.install(".[docs]")
    session.run("make", "-C", "doc", "html", external=True)


@nox.session
def coverage(session):
    """The tests, and the lines and branches that they do not cover."""
    session.install("-e", ".[dev]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def mutation(session):
    """Small changes to the mathematics that no test notices; see tests/mutation.rst."""
    session.install("-e", ".[dev]")
    session.run("mutmut", "run", *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("mutmut", "results")


@nox.session(python="3.10" if Path("/usr/bin/python3.10").exists() else None)
def lowest(session):
    """The tests with the lowest allowed versions."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join([*lower_bounds(), *LATEST_FOR_LOWEST]))
    session.install(".[tests]", "--constraint", str(constraints))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def newest(session):
    """The tests with the newest versions, including pre-releases."""
    session.install("--pre", "--upgrade", ".[tests]")
    session.run("python", "-m", "pytest", *session.posargs)
