"""Images and labels of a command, and their embeddings."""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ._failures import note, say
from ._inputs import is_table

MAX_LISTED = 10  # images that a message names


def default_cache():
    """The folder of embeddings where none is given: the user's cache, as systems have it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base, "skcandle", "embeddings"))


def labelled_images(photos, image_column, label_column):
    """Images with labels, from class folders or a table; none if `photos` is None.

    Returns
    -------
    data : Bunch
        With `images`, `target` and `target_names` as in `skcandle.datasets`, `empty_names`, the
        class folders without images, and `problems`, a list of the path of each image that cannot
        be used, and the reason.
    """
    import numpy as np
    from sklearn.utils import Bunch

    from .._image_files import list_class_folders, list_table
    from .._labels import label_array

    images, labels, problems, empty_names = [], [], [], []
    if photos is None:
        pass
    elif is_table(photos):
        paths, labels, reasons = list_table(photos, image_column, label_column)
        by_model = _rows_by_a_model(photos)
        problems = [
            (paths[i] or f"row {i + 1}", reason)
            for i, reason in reasons.items()
            if i not in by_model
        ]
        kept = [i for i in range(len(paths)) if i not in reasons and i not in by_model]
        images, labels = [paths[i] for i in kept], [labels[i] for i in kept]
    else:
        images, labels, folders, problems, _ = list_class_folders(photos)
        empty_names = sorted(set(folders).difference(labels))
    if photos is not None and not images and not problems:
        raise ValueError(f"The folder {str(photos)!r} contains no image.")
    if problems and not images:
        raise ValueError(f"None of the images can be used: {_listed(problems)}.")
    target = label_array(labels).astype(str)
    return Bunch(
        images=images,
        target=target,
        target_names=np.unique(target),
        empty_names=empty_names,
        problems=problems,
    )


def _rows_by_a_model(table):
    """Rows of a table from ``skcandle label`` that hold answers of a model, not of a person."""
    from .._image_files import read_columns

    try:
        (who,) = read_columns(table, ["who"])
    except ValueError:  # a table from elsewhere
        return set()
    if not set(who) <= {"person", "model"}:
        return set()
    rows = {i for i, said_by in enumerate(who) if said_by == "model"}
    if rows:
        note(f"{len(rows)} of {len(who)} rows are answers of a model and are left out.")
    return rows


def unlabelled_images(places, image_column):
    """Images of folders, tables and files, in the order in which they are given.

    A table keeps all its rows; other files that occur several times are listed once.

    Returns
    -------
    files : list of str
    reasons : dict of int to str
        What is wrong with rows of tables, by position in `files`.
    skipped : dict of str to str
        What is wrong with images of folders, which are not in `files`.
    """
    from .._image_files import find_images, list_table

    files: list[str] = []
    reasons: dict[int, str] = {}
    skipped: dict[str, str] = {}
    for place in places:
        if is_table(place):
            paths, _, problems = list_table(place, image_column, None)
            reasons |= {len(files) + row: reason for row, reason in problems.items()}
            files += paths
            continue
        found = [str(place)]
        if place.is_dir():
            found, problems = find_images(place)
            skipped.update(problems)
        known = set(files)
        files += [file for file in found if file not in known]
    return files, reasons, skipped


def unlabelled_embeddings(clip, places, image_column, on_error):
    """Embeddings and digests of images without labels.

    Parameters
    ----------
    clip : CLIPFeaturizer
    places : list of Path
    image_column : str
    on_error : {"raise", "skip"}

    Returns
    -------
    X : ndarray of shape (n_readable, n_features)
    contents : ndarray of shape (n_readable,)
    """
    files, reasons, skipped = unlabelled_images(places, image_column)
    kept = [i for i in range(len(files)) if i not in reasons]
    X, unreadable, contents = encode(clip, [files[i] for i in kept])
    reasons |= {kept[i]: reason for i, reason in unreadable.items()}
    problems = [(files[i], reason) for i, reason in reasons.items()] + list(skipped.items())
    check_problems(problems, len(files) + len(skipped), on_error)
    readable = [i for i in range(len(kept)) if i not in unreadable]
    return X[readable], contents[readable]


def encode(clip, files):
    """Embeddings of images, and what is wrong with those that have none.

    Parameters
    ----------
    clip : CLIPFeaturizer
    files : list of str

    Returns
    -------
    X : ndarray of shape (n_files, n_features)
        Rows of NaN for images that cannot be read.
    reasons : dict of int to str
        By position.
    contents : ndarray of shape (n_files,)
        Digests of the images.
    """
    from .._images.failures import without_name
    from ..classifier._training_images import content_digests
    from ..clip._featurizer import embed_images

    result = embed_images(clip, files)
    reasons = {i: without_name(reason, files[i]) for i, reason in result.reasons.items()}
    return result.rows, reasons, content_digests(result.digests)


class LabelledImages(NamedTuple):
    """Images that can be read: embeddings, digests, paths and labels."""

    X: Any
    contents: Any
    files: list
    y: Any


def readable(clip, data, on_error):
    """The :class:`LabelledImages` of `data`.

    All images are read before an error lists those that cannot, so that one run finds them all.
    The rows of the others are in the cache by then.
    """
    import numpy as np

    if data.problems and on_error == "raise":
        note(
            f"{len(data.problems)} images cannot be used; the others are read to list all of them."
        )
    X, reasons, contents = encode(clip, data.images)
    kept = [i for i in range(len(X)) if i not in reasons]
    problems = data.problems + [(data.images[i], reason) for i, reason in reasons.items()]
    check_problems(problems, len(X) + len(data.problems), on_error)
    lost = np.setdiff1d(data.target, data.target[kept]).tolist()
    if lost:
        say(
            f"Warning: no image is left of {', '.join(map(repr, lost))}; --new keeps such classes, "
            "by name."
        )
    files, y = [data.images[i] for i in kept], data.target[kept]
    _warn_of_copies(contents[kept], files, y)
    return LabelledImages(X[kept], contents[kept], files, y)


def _warn_of_copies(contents, files, y):
    """Print a warning if the same image is in several classes."""
    first: dict[int, int] = {}
    pairs = []
    for i, content in enumerate(contents.tolist()):
        other = first.setdefault(content, i)
        if y[other] != y[i]:
            pairs.append((files[other], files[i]))
    if pairs:
        which = "image is a copy" if len(pairs) == 1 else "images are copies"
        say(
            f"Warning: {len(pairs)} {which} of one in another class, such as {pairs[0][1]!r} of "
            f"{pairs[0][0]!r}. Remove the one in the wrong class."
        )


def check_problems(problems, n_images, on_error):
    """Raise an error, or print a warning, that lists images that cannot be used.

    Parameters
    ----------
    problems : list of (str, str)
        Path and reason of each.
    n_images : int
        Number of all images.
    on_error : {"raise", "skip"}
    """
    if not problems:
        return
    message = f"{len(problems)} of {n_images} images cannot be used: {_listed(problems)}."
    if on_error == "raise":
        raise ValueError(f"{message} Repair, move or remove them, or use --on-error skip.")
    say(f"Warning: {message} They are left out.")
    if len(problems) == n_images:
        raise ValueError("None of the images can be read.")


def _listed(problems):
    listed = "; ".join(f"{path!r} {reason}" for path, reason in sorted(problems)[:MAX_LISTED])
    return listed + ("; ..." if len(problems) > MAX_LISTED else "")
