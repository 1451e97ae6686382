"""The commands and their options; other modules do the work and are imported on demand."""

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .._bundled import BUNDLED_MODEL
from .._version import __version__
from ._failures import note_loading, reports_failures

app = typer.Typer(
    name="skcandle",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class OnError(str, Enum):
    """What to do with images that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="SKCANDLE_CACHE",
        help="Folder that stores embeddings, so that no image is encoded twice.",
        show_default="the cache folder of your system",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Store no embeddings on disk.")]
Device = Annotated[str, typer.Option(help="Where CLIP runs: auto, cpu, cuda, cuda:1 or mps.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Do not download models; URLs in tables are still read.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load a model that has parts of other libraries.")
]
ImageColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Table column with the image paths.")
]
LabelColumn = Annotated[str, typer.Option(metavar="NAME", help="Table column with the labels.")]
Template = Annotated[str, typer.Option(help="Prompt template; {} stands for the class name.")]
ModelName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"CLIP model: an open_clip name, hf-hub:OWNER/NAME, local-dir:FOLDER, or "
        f"{BUNDLED_MODEL}, which is part of skcandle, works offline and knows only emoji.",
    ),
]
Pretrained = Annotated[str, typer.Option(metavar="TAG", help="Weights of an open_clip model.")]
SkipOrRaise = Annotated[OnError, typer.Option(help="Stop if images cannot be read, or skip them.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, see fit.")]
ModelOutput = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="Model to write, a .skops file.")
]
Photos = Annotated[
    Path,
    typer.Argument(
        metavar="PHOTOS",
        help="A folder with one folder of images per class, or a .csv or .parquet table.",
    ),
]
DEFAULT_MODEL, DEFAULT_PRETRAINED = "ViT-B-16-quickgelu", "openai"
DEFAULT_TEMPLATE = "a photo of a {}."


def main():
    """Run the command with the arguments of the process."""
    app()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
):
    """Classify photos, also into classes with few images or with only a name.

    \b
    [bold]Examples[/bold]
      skcandle demo
      skcandle fit photos -o model.skops --new "okapi, saola"
      skcandle predict model.skops more_photos -o answers.csv
      skcandle predict more_photos --classes "okapi, saola, zebra"
    """
    if version:
        print(f"skcandle {__version__}")
        raise typer.Exit()


@app.command()
@reports_failures
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the picture and the page.")] = Path(
        "skcandle-demo"
    ),
    force: Force = False,
):
    """Run the quick start: learn 152 kinds of emoji, a third of them by name only.

    It works offline and takes less than a minute.
    It needs matplotlib: pip install 'skcandle\\[plots]'.

    \b
    [bold]Examples[/bold]
      skcandle demo
      skcandle demo my_folder --force
    """
    note_loading()
    from . import _demo

    for path in _demo.main(folder, force=force):
        print(path)


@app.command()
@reports_failures
def fit(
    output: ModelOutput,
    photos: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTOS",
            help="A folder with one folder of images per class, or a .csv or .parquet table. Leave "
            "it out if no image has a label.",
            show_default=False,
        ),
    ] = None,
    new: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help='Classes without images: "okapi, saola".'),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A table with the columns label and name, for folders that are named by codes. "
            "A label without images becomes a new class.",
        ),
    ] = None,
    unlabeled: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Learn from images without labels, too: a folder, an image or a table, such as "
            "the photos to be sorted.",
        ),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    pretrained: Pretrained = DEFAULT_PRETRAINED,
    template: Template = DEFAULT_TEMPLATE,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    reject: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            metavar="RATE",
            help="Give no label to images that look like none of the classes. RATE, such as 0.05, "
            "is the share of images of the classes that lose their label by mistake.",
        ),
    ] = None,
    on_error: SkipOrRaise = OnError.RAISE,
    cache: Cache = None,
    no_cache: NoCache = False,
    device: Device = "auto",
    offline: Offline = False,
    force: Force = False,
):
    """Learn classes from folders of photos and from names.

    The first folder on the way to an image is its class: photos/snow_leopard/2021/IMG_1.jpg shows
    a snow leopard. At the end, an estimate of the accuracy for new images is printed: copies of the
    model predict the images that they were not fitted on.

    Photos without labels help most where classes have few images or only a name. Names alone are
    enough: leave out PHOTOS, and list the classes with --new.

    \b
    [bold]Examples[/bold]
      skcandle fit photos -o model.skops
      skcandle fit photos -o model.skops --new "okapi, saola" --on-error skip
      skcandle fit photos -o model.skops --new okapi --unlabeled unsorted
      skcandle fit --new "okapi, saola, zebra" --unlabeled unsorted -o model.skops
      skcandle fit photos -o model.skops --reject 0.05
      skcandle fit table.csv -o model.skops --image-column file --label-column species
    """
    _go_offline(offline)
    if photos is None and not new and names is None:
        raise typer.BadParameter("Give photos, or the names of classes with --new or --names.")
    from ._inputs import check_file, check_labelled, check_unlabelled
    from ._outputs import check_model_output

    check_model_output(output, force)
    if photos is not None:
        check_labelled(photos)
    if unlabeled:
        check_unlabelled(unlabeled)
    check_file(names)
    note_loading()
    from ._work import fit_model

    fit_model(
        photos,
        output,
        new_classes=_split(new),
        names=names,
        unlabelled=unlabeled,
        model=(model, pretrained),
        template=template,
        columns=(image_column, label_column),
        reject=reject,
        on_error=on_error.value,
        cache=_cache(cache, no_cache),
        device=device,
        force=force,
    )


@app.command()
@reports_failures
def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] PHOTOS|FILES...",
            help="A model file (not with --classes), then folders, images or tables.",
        ),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help='Predict these names, without a model: "cat, dog".'),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Learn from the photos first. The model file does not change."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .csv, .parquet or .jsonl file, by default stdout.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Number of classes per image.")] = 1,
    min_probability: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            help="Give no label to images whose most probable class has less than this.",
        ),
    ] = 0.0,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Copy each image to DIR/CLASS, or to DIR/unknown if it gets no label; originals "
            "stay.",
        ),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Link instead of copying.")] = False,
    model: ModelName = DEFAULT_MODEL,
    pretrained: Pretrained = DEFAULT_PRETRAINED,
    template: Template = DEFAULT_TEMPLATE,
    image_column: ImageColumn = "image",
    on_error: SkipOrRaise = OnError.SKIP,
    cache: Cache = None,
    no_cache: NoCache = False,
    device: Device = "auto",
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Predict the classes of photos, with a model or from names only.

    Columns are file, label, probability (label_2, probability_2, ... with --top) and error, which
    says why an image cannot be read. An image that looks like none of the classes (see
    fit --reject and --min-probability) has neither a label nor an error. A table gets one row for
    each of its rows, in the same order. In CSV, a cell that a spreadsheet would run as a formula
    gets an apostrophe in front; .parquet and .jsonl files store it unchanged. --model,
    --pretrained and --template apply to --classes only.

    \b
    [bold]Examples[/bold]
      skcandle predict model.skops photo.jpg
      skcandle predict model.skops photos -o answers.csv --top 5
      skcandle predict model.skops photos --sort-into sorted --min-probability 0.5
      skcandle predict photos --classes "okapi, saola, zebra"
      skcandle predict photos --classes "okapi, saola, zebra" --adapt
    """
    _go_offline(offline)
    if not classes and len(inputs) < 2:
        raise typer.BadParameter("Give a model and photos, or photos and --classes.")
    if classes and any(path.suffix == ".skops" for path in inputs):
        raise typer.BadParameter("Give a model or --classes, not both.")
    names = _split(classes)
    if names is not None and len(names) < 2:
        raise typer.BadParameter('Give at least two names, such as "okapi, saola".')
    if link and sort_into is None:
        raise typer.BadParameter("--link needs --sort-into.")
    from ._inputs import check_model, check_unlabelled
    from ._outputs import check_new_folder, check_output
    from ._tables import check_suffix

    model_file, places = (None, inputs) if classes else (inputs[0], inputs[1:])
    if model_file is not None:
        check_model(model_file)
    check_unlabelled(places)
    check_suffix(output)
    check_output(output, force)
    check_new_folder(sort_into, force)
    note_loading()
    from ._work import predict_images

    predict_images(
        places,
        model_file,
        classes=names,
        adapt=adapt,
        output=output,
        top=top,
        min_probability=min_probability,
        sort_folder=sort_into,
        link=link,
        model=(model, pretrained),
        template=template,
        image_column=image_column,
        on_error=on_error.value,
        cache=_cache(cache, no_cache),
        device=device,
        force=force,
        trust=trust,
    )


@app.command()
@reports_failures
def evaluate(
    model: ModelFile,
    photos: Photos,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an .html report to this file.")
    ] = None,
    training: Annotated[
        bool | None,
        typer.Option(
            "--training-images/--test-images",
            help="Whether the model was fitted on all or on none of the images.",
            show_default="images that the model was fitted on are recognised",
        ),
    ] = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    on_error: SkipOrRaise = OnError.RAISE,
    cache: Cache = None,
    no_cache: NoCache = False,
    device: Device = "auto",
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Compare predictions with the true classes of photos.

    Photos that the model was fitted on are predicted with copies of the model without them, in five
    folds, here and in the report.

    \b
    [bold]Examples[/bold]
      skcandle evaluate model.skops test_photos
      skcandle evaluate model.skops test_photos --report report.html
    """
    _go_offline(offline)
    from ._inputs import check_labelled, check_model
    from ._outputs import check_output

    check_model(model)
    check_labelled(photos)
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{str(report)!r} must end in .html.", param_hint="--report")
    check_output(report, force)
    note_loading()
    from ._work import evaluate_model

    evaluate_model(
        model,
        photos,
        report=report,
        columns=(image_column, label_column),
        is_training=training,
        on_error=on_error.value,
        cache=_cache(cache, no_cache),
        device=device,
        force=force,
        trust=trust,
    )


@app.command()
@reports_failures
def add(
    model: ModelFile,
    names: Annotated[
        list[str], typer.Argument(metavar="NAMES...", help='Classes to add: "quagga, tarpan".')
    ],
    output: ModelOutput,
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Add classes by name, without images and without training.

    \b
    [bold]Examples[/bold]
      skcandle add model.skops quagga -o model2.skops
    """
    _go_offline(offline)
    from ._inputs import check_model
    from ._outputs import check_model_output

    check_model(model)
    check_model_output(output, force)
    note_loading()
    from ._work import add_classes

    add_classes(model, _split(names), output, force=force, trust=trust)


@app.command("add-images")
@reports_failures
def add_images(
    model: ModelFile,
    photos: Photos,
    output: ModelOutput,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    on_error: SkipOrRaise = OnError.RAISE,
    cache: Cache = None,
    no_cache: NoCache = False,
    device: Device = "auto",
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Add images to the classes of a model, without training.

    They may be more images of its classes, or images of new classes.

    \b
    [bold]Examples[/bold]
      skcandle add-images model.skops more_photos -o model2.skops
    """
    _go_offline(offline)
    from ._inputs import check_labelled, check_model
    from ._outputs import check_model_output

    check_model(model)
    check_labelled(photos)
    check_model_output(output, force)
    note_loading()
    from ._work import add_images_to_model

    add_images_to_model(
        model,
        photos,
        output,
        columns=(image_column, label_column),
        on_error=on_error.value,
        cache=_cache(cache, no_cache),
        device=device,
        force=force,
        trust=trust,
    )


@app.command()
@reports_failures
def remove(
    model: ModelFile,
    names: Annotated[
        list[str], typer.Argument(metavar="NAMES...", help='Classes to remove: "okapi, saola".')
    ],
    output: ModelOutput,
    force: Force = False,
    trust: Trust = False,
):
    """Remove classes from a model.

    \b
    [bold]Examples[/bold]
      skcandle remove model.skops okapi -o model2.skops
    """
    _restrict(model, names, output, keep=False, force=force, trust=trust)


@app.command()
@reports_failures
def restrict(
    model: ModelFile,
    names: Annotated[
        list[str], typer.Argument(metavar="NAMES...", help='Classes to keep: "okapi, saola".')
    ],
    output: ModelOutput,
    force: Force = False,
    trust: Trust = False,
):
    """Keep some classes of a model, and remove all others.

    \b
    [bold]Examples[/bold]
      skcandle restrict model.skops "okapi, saola, zebra" -o model2.skops
    """
    _restrict(model, names, output, keep=True, force=force, trust=trust)


@app.command()
@reports_failures
def export(
    model: ModelFile,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The .onnx file to write.")
    ],
    head_only: Annotated[
        bool,
        typer.Option("--head-only", help="Leave out CLIP: the file takes embeddings, not images."),
    ] = False,
    offline: Offline = False,
    force: Force = False,
    trust: Trust = False,
):
    """Write a model as an ONNX file, which runs without Python.

    The file takes pixels, and returns labels and probabilities.
    It needs two more packages: pip install 'skcandle\\[onnx]'.

    \b
    [bold]Examples[/bold]
      skcandle export model.skops -o model.onnx
      skcandle export model.skops -o head.onnx --head-only
    """
    _go_offline(offline)
    from ._inputs import check_model
    from ._outputs import check_output

    check_model(model)
    if output.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"{str(output)!r} must end in .onnx.", param_hint="--output")
    check_output(output, force)
    note_loading()
    from ._work import export_model

    export_model(model, output, head_only=head_only, force=force, trust=trust)


@app.command()
@reports_failures
def info(model: ModelFile, trust: Trust = False):
    """Show the CLIP and the classes of a model, with their numbers of images.

    \b
    [bold]Examples[/bold]
      skcandle info model.skops
    """
    from ._inputs import check_model

    check_model(model)
    from ._info import describe_model

    describe_model(model, trust=trust)


def _restrict(model, names, output, *, keep, force, trust):
    from ._inputs import check_model
    from ._outputs import check_model_output

    check_model(model)
    check_model_output(output, force)
    note_loading()
    from ._work import restrict_classes

    restrict_classes(model, _split(names), output, keep=keep, force=force, trust=trust)


def _split(names):
    """Split the values of a repeated option at their commas."""
    if names is None:
        return None
    found = [name.strip() for part in names for name in part.split(",")]
    found = [name for name in found if name]
    if not found:
        raise typer.BadParameter('Give at least one name, such as "okapi, saola".')
    return found


def _cache(cache, no_cache):
    if no_cache:
        return None
    from ._images import default_cache

    return str(cache or default_cache())


def _go_offline(offline):
    if offline:  # huggingface_hub reads it when it is imported
        os.environ["HF_HUB_OFFLINE"] = "1"
