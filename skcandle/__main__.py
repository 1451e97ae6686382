"""The command ``skcandle``: that of ``cli``, and ``skcandle label`` from above it."""

from .cli import main
from .cli._app import app
from .cli._failures import reports_failures
from .labelling._command import label

app.command()(reports_failures(label))

if __name__ == "__main__":
    main()
