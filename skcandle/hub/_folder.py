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
        Fitted, as :func:`~skcandle.make_candle_pipeline` makes it. Of a search, its
        `best_estimator_`.

    folder : str or path-like
        Made if need be. Other files in it stay as they are.

    license : str, default=None
        Identifier of a licence as the Hub spells it, for example ``"cc-by-4.0"``.

    description : str, default=None
        Markdown for the beginning of the card: what it is for, where the images came from, and
        what `metrics` were measured on.

    metrics : mapping of str to float, default=None
        Results for the card, for example of :func:`~skcandle.metrics.base_new_report` with
        ``output_dict=True``.

    overwrite : bool, default=False
        Whether ``model.skops`` and ``README.md`` of the folder are replaced.

    Returns
    -------
    folder : Path
        With ``model.skops``, the pipeline in the format of skops, and ``README.md``, the card.

    Raises
    ------
    TypeError
        If `pipe` is something else, is not fitted, or `metrics` is no mapping to numbers.
    ValueError
        If the pipeline holds objects of other libraries, such as a function as `text_encoder`.
    OSError
        If there is such a file already, or it cannot be written.

    See Also
    --------
    push_to_hub : Puts the folder on the Hugging Face Hub.
    load_pipeline : Reads it.

    Notes
    -----
    CLIP's weights are not in the folder. Neither are `cache`, `device`, `n_jobs` and `verbose`,
    which belong to one machine. The file does hold the names of classes, class means of the
    embeddings, and the path of a ``local-dir:`` model.

    Both files are written whole or not at all.

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
            f"pipe is a {type(pipe).__name__}, or is not fitted; a fitted pipeline of "
            "make_candle_pipeline is needed, of a search its best_estimator_."
        )
    pipe = portable(pipe)
    card = render_card(pipe, license=license, description=description, metrics=metrics)
    data = to_bytes(pipe)
    foreign = foreign_types(data)
    if foreign:
        raise ValueError(
            f"The pipeline holds {', '.join(foreign)}, which others cannot load without trusting "
            "it; give parameters as lists, dicts and arrays, and as text_encoder a CLIPFeaturizer "
            "or a mapping of labels to vectors."
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
    """Read a pipeline from a folder, a file, or the Hugging Face Hub.

    Nothing in it is run: `skops` makes the objects, of the types of a fitted pipeline and of those
    that it trusts itself (of NumPy, SciPy and scikit-learn), and a file that names any other is
    refused before anything is made. Of a repository, only
    ``model.skops`` is downloaded.

    Parameters
    ----------
    source : str or path-like
        A folder of :func:`save_pipeline`, a ``.skops`` file of it or of the command ``skcandle
        fit``, or ``"owner/name"``, a repository of the Hub. A folder of that name comes first.

    revision : str, default=None
        Branch, tag or commit of a repository, by default ``"main"``. A commit never changes.

    token : str, default=None
        For private repositories; by default the one you are logged in with.

    Returns
    -------
    pipe : Pipeline
        Fitted. CLIP is loaded when it is first used, from where its name says: look at
        ``pipe["clip"].model_name`` before you use what somebody else made.

    Raises
    ------
    ValueError
        If the file is none of a pipeline, or has objects of other libraries.
    OSError
        If there is no such folder or file.
    HubError
        If the Hub cannot be reached, or does not have it. With ``HF_HUB_OFFLINE=1``, only what
        was downloaded before is found.

    See Also
    --------
    save_pipeline : Writes it, with an example.
    """
    path = Path(source)
    if not path.exists():
        path = Path(download(source, revision, token))
    elif revision is not None:
        raise ValueError(
            f"revision={revision!r} is of a repository, but {str(source)!r} is on this machine; "
            "leave it out."
        )
    if path.is_dir():
        path = path / MODEL_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"The folder {str(source)!r} has no {MODEL_FILE}; save_pipeline makes one."
            )
    if not is_model_file(path):
        raise ValueError(
            f"{str(path)!r} is no file of skops, and pickles are not loaded; save_pipeline makes "
            "one."
        )
    data, foreign = read(path)
    if foreign:
        raise ValueError(
            f"{str(path)!r} was not loaded, since it has parts that no pipeline of skcandle has: "
            f"{', '.join(foreign)}. If you trust them, skops.io.load(..., trusted=[...]) loads it."
        )
    return from_bytes(data, path)
