"""Messages of a command on stderr, and its exit codes."""

import functools
import os
import sys
import warnings

import typer

from ._printable import printable

FAILURE, INTERRUPTED = 1, 130  # typer uses 2 for wrong usage


def say(message):
    """Print a line to stderr, apart from the results on stdout."""
    print(printable(message), file=sys.stderr)


def note(message):
    """Print a line to stderr if it is a terminal."""
    if sys.stderr.isatty():
        say(message)


def note_loading():
    """Say that a command has begun, before imports that take seconds."""
    note("Loading the libraries ...")


def reports_failures(command):
    """Make a command print errors and warnings as sentences, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _OnceEach()
            try:
                command(*args, **kwargs)
                sys.stdout.flush()
            except BrokenPipeError:  # such as from `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(FAILURE) from None
            except KeyboardInterrupt:
                say(
                    "Interrupted. Finished embeddings are in the cache; no incomplete file is left."
                )
                raise typer.Exit(INTERRUPTED) from None
            except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
                say(f"Error: {str(error) or type(error).__name__}")
                raise typer.Exit(FAILURE) from None

    return wrapped


class _OnceEach:
    """Prints each distinct warning once, as a sentence."""

    def __init__(self):
        self.said = set()

    def __call__(self, message, category, filename, lineno, file=None, line=None):
        if str(message) not in self.said:
            self.said.add(str(message))
            say(f"Warning: {message}")
