"""What a command says on stderr, and its exit codes."""

import functools
import os
import sys
import warnings

import typer

from ._printable import printable

FAILURE, INTERRUPTED = 1, 130  # 2, for usage, is typer's


def say(message):
    """A line on stderr, kept apart from results on stdout."""
    print(printable(message), file=sys.stderr)


def note(message):
    """A line on stderr for a person who watches; nothing where stderr is no terminal."""
    if sys.stderr.isatty():
        say(message)


def reports_failures(command):
    """A command whose errors and warnings are sentences, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _OnceEach()
            try:
                command(*args, **kwargs)
                sys.stdout.flush()
            except BrokenPipeError:  # as of `| head`, which has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(FAILURE) from None
            except KeyboardInterrupt:
                say("Interrupted. Embeddings made so far are in the cache; no half file is left.")
                raise typer.Exit(INTERRUPTED) from None
            except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
                say(f"Error: {_sentence(error)}")
                raise typer.Exit(FAILURE) from None

    return wrapped


def _sentence(error):
    from ..exceptions import ImageReadError, WeightsNotAvailableError

    sentence = str(error) or type(error).__name__
    if isinstance(error, ImageReadError):
        return f"{sentence} In this command: --on-error skip leaves them out."
    if isinstance(error, WeightsNotAvailableError):
        from .._bundled import BUNDLED_MODEL

        return f"{sentence} In this command: --model {BUNDLED_MODEL}."
    return sentence


class _OnceEach:
    """Shows a warning as a sentence, and no sentence twice."""

    def __init__(self):
        self.said = set()

    def __call__(self, message, category, filename, lineno, file=None, line=None):
        if str(message) not in self.said:
            self.said.add(str(message))
            say(f"Warning: {message}")
