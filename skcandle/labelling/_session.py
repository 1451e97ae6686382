"""The labelling loop without a page."""

from ._state import NONE, SKIP, UNLABELLED


class LabellingSession:
    """Images, their embeddings, the labels so far, and a classifier that follows from them.

    All methods may be called from several threads. Indices are positions in `images`.

    Attributes
    ----------
    images : list
        Paths (sorted, as find_images lists them), or images in memory.
    names : list of str
        Path of each image relative to the folder, with "/"; for showing and for the files.
    n_images : int
    class_names : list of str
        In the order in which they were added. A class that was typed with a label lasts as long as
        an image has it; a class from `classes` or `add_class` stays.
    labels : ndarray of shape (n_images,) of int
        Position in `class_names`, or UNLABELLED (-1), NONE (-2), SKIP (-3).
    version : int
        Grows with every change of labels or classes.
    problems : list of (str, str)
        Path and reason of each image that cannot be read; they are not in `images`.
    """

    def __init__(
        self, images, X, *, classes=(), text_encoder, classifier=None, names=None, journal=None
    ): ...

    @classmethod
    def open(
        cls,
        folder,
        output="labels.csv",
        *,
        classes=(),
        model=("ViT-B-16-quickgelu", "openai"),  # or a fitted pipeline
        cache=None,
        device="auto",
        verbose=0,
    ):
        """Encode what is not cached, lock and replay the journal (beside `output`).

        Raises ValueError / OSError with one sentence, such as for a folder that another process
        labels.
        """

    def label(self, indices, answer, *, shown=None, order=None):
        """Give images a class by its name, or NONE, SKIP or UNLABELLED.

        The entry is on disk before this returns; after an error nothing has changed (OSError when
        the disk is full, ValueError for a name that differs from a class only in case, or is empty
        or too long, or an index that is out of range).

        shown : class name (or None) that the page showed for each image; None if nothing was shown.
        order : the `by` with which the page got the images, for the estimate of the accuracy.
        """

    def add_class(self, name):
        """Add a class without labelling an image."""

    def undo(self):
        """Take back the last action; returns the indices whose label changed, or None at the end."""

    def redo(self):
        """The same, forwards."""

    can_undo = can_redo = property()

    def answer(self, indices):
        """Answers for these images only (fast); also for labelled ones."""

    @property
    def answers(self):
        """Answers for all images; computed on first use after a change."""

    def novelty(self, indices):
        """Higher for images that look less like any class, shape (n,); 0 while no class."""

    def next(self, n, by="help", *, class_name=None, image=None, words=None, start=0):
        """Indices of at most n images, best first; `start` skips as many (for scrolling).

        by : "help"      unlabelled, those whose labels would help most (choose_to_label)
             "doubt"     unlabelled, the most doubtful first
             "class"     unlabelled whose answer is class_name, the most probable first
             "none"      unlabelled, those that look least like any class first
             "random"    unlabelled, in a fixed random order: honest estimate of the accuracy
             "image"     all other images, the most similar to `image` (an index) first
             "words"     all images, the most similar to the text first
             "labelled"  labelled with class_name (or NONE, SKIP; any if None), latest first
        """

    @property
    def progress(self):
        """A :class:`Progress`."""

    def to_csv(self, path=None):
        """Write labels.csv (path=None: the `output` of open); returns the path."""

    def save_model(self, path):
        """Fit on the labels and write a .skops pipeline (replaces the file); returns the path."""

    def sort_into(self, folder):
        """Copy each image to folder/CLASS; returns the number of copies."""

    def close(self):
        """Write labels.csv if there is an `output`, release the lock. Also a context manager."""
