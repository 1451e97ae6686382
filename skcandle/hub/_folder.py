"""A fitted pipeline and its model card in a folder."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from sklearn.pipeline import Pipeline

from .. import _typing
from .._files import make_folder, replacing
from ._card import render_card
from ._model_files import (
    foreign_types,
    from_bytes,
    is_fitted_pipeline,
    is_model_file,
    portable,
    read,
    to_bytes,
)
from ._transfer import CARD_FILE, MODEL_FILE, download


def save_pipeline(
    pipe: Pipeline,
    folder: _typing.Path,
    *,
    license: str | None = None,
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a fitted pipeline and its model card into a folder.

    Parameters
    ----------
    pipe : Pipeline
        A fitted pipeline from :func:`~skcandle.make_candle_pipeline`, or the `best_estimator_` of
        a search over one.

    folder : str or path-like
        Created if it does not exist. Other files in it stay unchanged.

    license : str, default=None
        Identifier of a licence as the Hub spells it, for example ``"cc-by-4.0"``.

    description : str, default=None
        Markdown for the beginning of the card: the purpose of the pipeline, where its images come
        from, and on what data the `metrics` were measured.

    metrics : mapping of str to float, default=None
        Results for the card, for example from :func:`~skcandle.metrics.base_new_report` with
        ``output_dict=True``.

    overwrite : bool, default=False
        Whether to overwrite ``model.skops`` and ``README.md`` in the folder.

    Returns
    -------
    folder : Path
        The folder. It contains ``model.skops``, the pipeline in the format of skops, and
        ``README.md``, the card.

    Raises
    ------
    TypeError
        If `pipe` is not such a pipeline or not fitted, or `metrics` does not map names to numbers.
    ValueError
        If the pipeline contains objects of other libraries, such as a function as `text_encoder`.
    OSError
        If a file already exists, or cannot be written.

    See Also
    --------
    push_to_hub : Upload the folder to the Hugging Face Hub.
    load_pipeline : Load the pipeline.

    Notes
    -----
    The folder contains neither CLIP's weights nor `cache`, `device`, `n_jobs` and `verbose`, which
    belong to one machine. It does contain the names of the classes, the class means of the
    embeddings, a digest of each training image, and the path of a ``local-dir:`` model. With the
    single-image term of ``CandleClassifier`` (unless ``single_image_weight=0``), it also contains
    the embeddings of up to 5,000 training images.

    Each file is written completely or not at all.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.hub import load_pipeline, save_pipeline
    >>> emoji = load_emoji()
    >>> fruit = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    >>> images = [emoji.images[i] for i in fruit]
    >>> pipe = make_candle_pipeline("emoji-clip", new_classes=["strawberry"])
    >>> pipe = pipe.fit(images, emoji.target[fruit])
    >>> with TemporaryDirectory() as folder:
    ...     folder = save_pipeline(pipe, folder, license="cc-by-4.0")
    ...     sorted(path.name for path in folder.iterdir())
    ...     again = load_pipeline(folder)
    ['README.md', 'model.skops']
    >>> np.array_equal(again.predict_proba(images), pipe.predict_proba(images))
    True
    """
    if not is_fitted_pipeline(pipe):
        raise TypeError(
            "pipe must be a fitted pipeline from make_candle_pipeline (for a search, its "
            f"best_estimator_); this {type(pipe).__name__} is not."
        )
    pipe = portable(pipe)
    card = render_card(pipe, license=license, description=description, metrics=metrics)
    data = to_bytes(pipe)
    foreign = foreign_types(data)
    if foreign:
        raise ValueError(
            f"The pipeline contains {', '.join(foreign)}, which others cannot load safely. Pass "
            "parameters as lists, dicts and arrays, and text_encoder as a CLIPFeaturizer or a "
            "mapping of labels to vectors."
        )
    contents = {MODEL_FILE: data, CARD_FILE: card.encode("utf-8", "replace")}
    return _write(Path(folder), contents, overwrite)


def _write(folder, contents, overwrite):
    """Write both files, or raise an error and write neither."""
    make_folder(folder, parents=True)
    with ExitStack() as stack:
        for name, content in contents.items():
            temporary = stack.enter_context(replacing(folder / name, overwrite=overwrite))
            temporary.write_bytes(content)
    return folder


def load_pipeline(
    source: _typing.Path, *, revision: str | None = None, token: str | None = None
) -> Pipeline:
    """Load a pipeline from a folder, a file, or the Hugging Face Hub.

    Loading runs no code from the file: skops creates only objects of the types of a fitted
    pipeline, and of types that it trusts itself (of NumPy, SciPy and scikit-learn). A file with any
    other type is refused before an object is created. Featurizers are created anew from their
    parameters, so that the file does not choose folders or hide models. Only ``model.skops`` is
    downloaded from a repository.

    Parameters
    ----------
    source : str or path-like
        A folder from :func:`save_pipeline`, a ``.skops`` file from it or from the command
        ``skcandle fit``, or ``"owner/name"``, a repository on the Hub, unless there is a folder
        with that name.

    revision : str, default=None
        Branch, tag or commit of a repository, by default ``"main"``. Only a commit never changes.

    token : str, default=None
        Access token for a private repository; by default the one you are logged in with.

    Returns
    -------
    pipe : Pipeline
        The fitted pipeline. It loads CLIP by name when it is first used: check
        ``pipe["clip"].model_name`` and ``pipe["candle"].text_encoder`` before you use a file from
        somebody else. A `ModelError` says if the CLIP is not the one of the fit.

    Raises
    ------
    ValueError
        If the file does not contain a pipeline, contains objects of other libraries, has parts
        that contradict each other, or would take more memory than a file of its size may.
    OSError
        If the folder or file does not exist.
    HubError
        If the Hub cannot be reached, or does not have the repository. With ``HF_HUB_OFFLINE=1``,
        only repositories that were downloaded before are found.

    See Also
    --------
    save_pipeline : Save a pipeline; has an example.
    """
    path = Path(source)
    if not path.exists():
        path = Path(download(source, revision, token))
    elif revision is not None:
        raise ValueError(
            f"revision={revision!r} applies to repositories of the Hub, but {str(source)!r} is on "
            "this machine; leave it out."
        )
    if path.is_dir():
        path = path / MODEL_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"The folder {str(source)!r} has no {MODEL_FILE}; save_pipeline writes one."
            )
    if not is_model_file(path):
        raise ValueError(
            f"{str(path)!r} is not a skops file, and pickles are not loaded; save_pipeline writes "
            "skops files."
        )
    data, foreign = read(path)
    if foreign:
        raise ValueError(
            f"{str(path)!r} was not loaded, because it has parts that do not belong to a pipeline "
            f"of skcandle: {', '.join(foreign)}. If you trust its author, load it with "
            "skops.io.load(..., trusted=[...])."
        )
    return from_bytes(data, path)
