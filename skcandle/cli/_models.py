"""Model files that the commands read and write."""

from ._outputs import replacing


def save_model(pipe, path, force):
    """Write a fitted pipeline, without settings that belong to this machine."""
    from ..hub._model_files import to_bytes

    with replacing(path, force) as temporary:
        temporary.write_bytes(to_bytes(pipe))


def load_model(path, *, trust=False):
    """Read a fitted pipeline of a CLIPFeaturizer and a classifier from this library.

    Parameters
    ----------
    path : Path
    trust : bool
        Whether to load types of other libraries.

    Returns
    -------
    pipe : Pipeline
        With the steps "clip" and "candle".

    Raises
    ------
    ValueError
        If the file is not a model, or has types that are not trusted.
    """
    from ..hub._model_files import from_bytes, is_model_file, read

    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give a model file first, or class names with --classes."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if not is_model_file(path):
        raise ValueError(
            f"{str(path)!r} is not a model file; `skcandle fit PHOTOS -o FILE` writes one."
        )
    data, foreign = read(path)
    if foreign and not trust:
        raise ValueError(
            f"The model {str(path)!r} has parts that do not belong to a model of skcandle: "
            f"{', '.join(foreign)}. If you trust its author, load it with --trust."
        )
    return from_bytes(data, path, trusted=foreign)
