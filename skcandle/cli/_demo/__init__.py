"""The quick start: a long tail of emoji, with a third of the classes known by name only."""

from pathlib import Path

from ..._files import make_folder
from ..._lazy import lazy_names
from .._outputs import check_output, replacing

PICTURE, PAGE = "skcandle_demo.png", "index.html"

# for examples/first_steps/plot_quickstart.py, which shows the same comparison
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FIGURE_SIZE": "_picture",
        "draw": "_picture",
        "evaluate": "_evaluation",
        "table": "_summary",
    },
)


def main(folder, *, force=False, n_draws=10):
    """Compare three classifiers on the bundled emoji; print a table, write a picture and a page.

    Parameters
    ----------
    folder : path-like
        Created if it does not exist.
    force : bool, default=False
        Whether to overwrite the files of an earlier call.
    n_draws : int, default=10
        Number of draws of the task, at least 2.

    Returns
    -------
    paths : list of Path
        The picture and the page.

    Raises
    ------
    FileExistsError
        If one of the files exists and `force` is False.
    OSError
        If the folder cannot be created or written to.
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are fewer than 2 draws.
    """
    paths = _check(Path(folder), force)
    # imported after the check, so that its error comes at once
    from ._evaluation import evaluate
    from ._page import page
    from ._picture import new_figure
    from ._summary import table

    evaluation = evaluate(n_draws)
    print(table(evaluation))
    figure = new_figure(evaluation)
    with replacing(paths[0], force) as temporary:
        figure.savefig(temporary, dpi=200)
    with replacing(paths[1], force) as temporary:
        temporary.write_text(page(evaluation, paths[0].read_bytes()), encoding="utf-8")
    return paths


def _check(folder, force):
    """Paths of the picture and the page, after a check that they can be written."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The demo draws a picture with matplotlib: pip install 'skcandle[plots]'."
        ) from error
    paths = [folder / PICTURE, folder / PAGE]
    make_folder(folder)
    for path in paths:
        check_output(path, force)
    return paths
