"""Checks in environments of their own: ``nox -s lint tests``, ``nox -s lowest newest``.

`lowest` installs the lowest versions that pyproject.toml allows, `newest` whatever an index has,
pre-releases included.
"""

import re
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
# Versions after which the lowest ones of others fail: what Matplotlib 3.7 calls is deprecated.
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
    """The tests, with the versions that pip chooses; more arguments go to pytest."""
    session.install(".[tests]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def docs(session):
    """The documentation, examples run; it fails on warnings and on links that lead nowhere."""
    session.install(".[docs]")
    session.run("make", "-C", "doc", "html", external=True)


@nox.session
def coverage(session):
    """The tests, and which lines and branches they do not reach."""
    session.install("-e", ".[dev]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def mutation(session):
    """Small changes to the mathematics that no test notices; tests/mutation.rst explains those."""
    session.install("-e", ".[dev]")
    session.run("mutmut", "run", *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("mutmut", "results")


@nox.session(python="3.10" if Path("/usr/bin/python3.10").exists() else None)
def lowest(session):
    """The tests at the lowest versions that are allowed."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join([*lower_bounds(), *LATEST_FOR_LOWEST]))
    session.install(".[tests]", "--constraint", str(constraints))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def newest(session):
    """The tests at the newest versions, pre-releases included."""
    session.install("--pre", "--upgrade", ".[tests]")
    session.run("python", "-m", "pytest", *session.posargs)
