"""Model files: what is written with --output, and read by the commands."""

from ._outputs import replacing


def save_model(pipe, path, force):
    """Write a fitted pipeline, without what belongs to this machine."""
    from ..hub._model_files import to_bytes

    with replacing(path, force) as temporary:
        temporary.write_bytes(to_bytes(pipe))


def load_model(path, *, trust=False):
    """Read a fitted pipeline of a CLIPFeaturizer and a classifier of this library.

    Parameters
    ----------
    path : Path
    trust : bool
        Whether types of other libraries may be loaded.

    Returns
    -------
    pipe : Pipeline
        With the steps "clip" and "candle".

    Raises
    ------
    ValueError
        If the file is none of a model, or has types that are not trusted.
    """
    from ..hub._model_files import from_bytes, is_model_file, read

    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give a model first, or names with --classes."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if not is_model_file(path):
        raise ValueError(f"{str(path)!r} is no model; `skcandle fit PHOTOS -o FILE` makes one.")
    data, foreign = read(path)
    if foreign and not trust:
        raise ValueError(
            f"The model {str(path)!r} has parts that are not of skcandle's models: "
            f"{', '.join(foreign)}. If you know who made it, --trust loads them."
        )
    return from_bytes(data, path, trusted=foreign)
