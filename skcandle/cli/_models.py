"""Model files that the commands read and write."""

from ._inputs import check_model
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
    check_model(path)
    from ..hub._model_files import from_bytes, read

    data, foreign = read(path)
    if foreign and not trust:
        raise ValueError(
            f"The model {str(path)!r} has parts that do not belong to a model of skcandle: "
            f"{', '.join(foreign)}. If you trust its author, load it with --trust."
        )
    return from_bytes(data, path, trusted=foreign)
