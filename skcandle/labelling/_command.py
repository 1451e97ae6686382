"""The command ``skcandle label``; what takes seconds to import is imported on demand."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..cli._app import (
    DEFAULT_MODEL,
    DEFAULT_PRETRAINED,
    DEFAULT_TEMPLATE,
    Cache,
    Device,
    Force,
    ModelName,
    NoCache,
    Offline,
    Pretrained,
    Template,
    Trust,
    _cache,
    _go_offline,
    _split,
)
from ..cli._failures import note_loading, say


def label(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of images.")],
    start: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model file to start from, see fit.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Table of labels, a .csv file."),
    ] = Path("labels.csv"),
    classes: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help='Classes to begin with: "okapi, saola".'),
    ] = None,
    classes_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text file with one class per line.")
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="At the end, copy each image to DIR/CLASS."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address of the page. Others than this machine's are less safe.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, but do not open it.")
    ] = False,
    model: ModelName = DEFAULT_MODEL,
    pretrained: Pretrained = DEFAULT_PRETRAINED,
    template: Template = DEFAULT_TEMPLATE,
    cache: Cache = None,
    no_cache: NoCache = False,
    device: Device = "auto",
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Label a folder of photos in the browser, with a model that learns from every label.

    Every label is stored before the page shows it. Ctrl-C ends the command and writes the table.
    The same command continues. Photos are only read, never moved.
    It needs Starlette and Uvicorn: pip install 'skcandle\\[label]'.

    \b
    [bold]Examples[/bold]
      skcandle label photos
      skcandle label photos -o labels.csv --classes "okapi, saola"
      skcandle label photos model.skops -o labels.csv
      skcandle fit labels.csv -o model.skops
    """
    _go_offline(offline)
    names = (_split(classes) or []) + _lines(classes_file)
    from ..cli._images import check_problems
    from ..cli._inputs import check_model
    from ..cli._outputs import check_new_folder

    if start is not None:
        check_model(start)
    check_new_folder(sort_into, force)
    note_loading()
    serve = _server()
    from ..cli._models import load_model
    from ..clip import CLIPFeaturizer
    from ..hub._model_files import fitted_candle
    from ._session import LabellingSession

    settings = {"cache": _cache(cache, no_cache), "device": device}
    settings["verbose"] = int(sys.stderr.isatty())
    if start is None:
        clip_or_pipe = CLIPFeaturizer(model, pretrained, **settings)
    else:
        clip_or_pipe = load_model(start, trust=trust)
        clip_or_pipe["clip"].set_params(**settings)
        fitted_candle(clip_or_pipe).set_params(device=device)
    model_path = output.with_suffix(".skops")
    with LabellingSession.open(
        folder, output, classes=names, model=clip_or_pipe, templates=template
    ) as session:
        n_problems = len(session.problems)
        check_problems(session.problems, session.n_images + n_problems, "skip")
        try:
            serve(
                session,
                host=host,
                port=port,
                model_path=model_path,
                title=folder.resolve().name,
                open_browser=not no_browser,
                show=lambda address: say(f"{address} (Ctrl-C ends the command)"),
            )
        except KeyboardInterrupt:  # the usual end
            pass
        if sort_into is not None:
            say(f"{sort_into}: {session.sort_into(sort_into)} copies.")
        n_labelled = int((session.labels >= 0).sum())
    if output.exists():
        say(f"{output}: the table, with {n_labelled} of your labels.")
    if model_path.exists():
        say(f"{model_path}: the model.")
    say("The same command continues.")


def _server():
    try:
        from ._server import serve
    except ImportError as error:
        raise ImportError(
            "The page needs Starlette and Uvicorn: pip install 'skcandle[label]'."
        ) from error
    return serve


def _lines(path):
    """The names in a file, one per line."""
    if path is None:
        return []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]
