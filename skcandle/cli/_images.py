"""Images and labels of a command, and their embeddings."""

import os
import sys
from pathlib import Path

from ._failures import say
from ._inputs import is_table


def default_cache():
    """The folder of embeddings where none is given: the user's cache, as systems have it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base, "skcandle", "embeddings"))


def labelled_images(photos, image_column, label_column, on_error):
    """Images with labels, of class folders or a table; see `skcandle.datasets`."""
    from ..datasets import load_image_folder, load_image_table

    if is_table(photos):
        return load_image_table(photos, image=image_column, label=label_column, on_error=on_error)
    return load_image_folder(photos, on_error=on_error)


def unlabelled_images(places, image_column, on_error):
    """Images of folders, tables and files, in the order in which they are given.

    Returns
    -------
    files : list of str
    skipped : dict of str to str
        What is wrong with images that are not in `files`.
    """
    from .._image_files import find_images
    from ..datasets import load_image_table

    files, skipped = [], {}
    for place in places:
        if place.is_dir():
            found, problems = find_images(place, on_error=on_error)
        elif is_table(place):
            data = load_image_table(place, image=image_column, label=None, on_error=on_error)
            found, problems = data.images, data.skipped
        else:
            found, problems = [str(place)], []
        files += found
        skipped.update(problems)
    return list(dict.fromkeys(files)), skipped


def encode(clip, files):
    """Embeddings of images, and what is wrong with those that have none.

    Parameters
    ----------
    clip : CLIPFeaturizer
    files : list of str

    Returns
    -------
    X : ndarray of shape (n_files, n_features)
        Rows of NaN for images that cannot be read, if `clip` allows them.
    reasons : dict of int to str
        By position.
    """
    from .._images.failures import without_name
    from ..clip._featurizer import embed_images

    result = embed_images(clip, files)
    if result.reasons and clip.on_error == "raise":
        raise result.error()
    reasons = {i: without_name(reason, files[i]) for i, reason in result.reasons.items()}
    return result.rows, reasons


def readable(clip, data):
    """Embeddings, paths and labels of the images of `data` that can be read.

    One line says how many cannot, and why the first cannot.
    """
    import numpy as np

    X, reasons = encode(clip, data.images)
    kept = [i for i in range(len(X)) if i not in reasons]
    if reasons:
        first = min(reasons)
        say(
            f"Warning: {len(reasons)} of {len(X)} images cannot be read and are left out; "
            f"{data.images[first]!r} {reasons[first]}."
        )
    if not kept:
        raise ValueError("None of the images can be read.")
    lost = np.setdiff1d(data.target, data.target[kept]).tolist()
    if lost:
        say(
            f"Warning: no image is left of {', '.join(map(repr, lost))}; --new keeps such classes, "
            "by name."
        )
    return X[kept], [data.images[i] for i in kept], data.target[kept]
