"""Text features of classes: names in prompt templates, embedded by a text encoder."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from .._labels import is_textual
from .._typing import EncodesText
from .._warnings import warn_user
from ..exceptions import TextFeaturesWarning, WeightsNotAvailableError
from ._embeddings import rescale_extreme_rows, unit
from ._universe import ENCODED_LABELS, ENCODED_LABELS_OF_VECTORS, plain_label

if TYPE_CHECKING:
    from ..clip._identity import ModelIdentity

# Fewer images than this do not show whether predictions are at chance level.
MIN_IMAGES_FOR_CHANCE = 20

_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")  # between two letters
# Latin capitals and small letters, with and without accents.
_UPPER, _LOWER = "A-Z\u00c0-\u00d6\u00d8-\u00de", "a-z\u00df-\u00f6\u00f8-\u00ff"
_CAPITAL = re.compile(
    rf"(?<=[{_UPPER}{_LOWER}][{_LOWER}])(?=[{_UPPER}])"
    rf"|(?<=[{_UPPER}])(?=[{_UPPER}][{_LOWER}]{{2}})"
)
_DIGIT = re.compile(r"\d")
_WORD = re.compile(rf"[{_LOWER}]{{2}}")


@dataclass(frozen=True)
class ClassTextEncoder:
    """Makes text features of classes.

    Attributes
    ----------
    encoder : CLIPFeaturizer, callable or mapping
        Embeds prompts. A mapping of label to vector is used without any template.
    templates : str or list of str
        Prompt templates.
    default_model : str
        Name of the model that ``text_encoder="auto"`` stands for, or "" for another encoder.
    identity : ModelIdentity or None
        Of the CLIP that embedded the names at fit. Later names must be embedded by the same one.
    """

    encoder: EncodesText | Callable[[list[str]], ArrayLike] | Mapping[Any, ArrayLike]
    templates: str | Sequence[str]
    default_model: str = ""
    identity: "ModelIdentity | None" = None

    def __call__(self, labels, names, n_features):
        """Text features of classes: rows of length one, averaged over templates and synonyms.

        Parameters
        ----------
        labels : sequence
        names : list of str or tuple of str, or None
            A tuple holds the synonyms of a class, which have equal weights.
        n_features : int
            Width of the image features, which the text features must have.

        Returns
        -------
        text_features : ndarray of shape (n_classes, n_features)

        Raises
        ------
        ValueError
            If a class has no vector or name, or the features have the wrong shape or are not
            finite.
        """
        if self.identity is not None:
            featurizer: Any = self.encoder
            featurizer._check_identity(self.identity)
        of_label = labels = [plain_label(label) for label in labels]
        if isinstance(self.encoder, Mapping):
            missing = [label for label in labels if label not in self.encoder]
            if missing:
                raise ValueError(
                    f"text_encoder has no vector for the label {missing[0]!r} "
                    f"({len(missing)} of {len(labels)} labels are missing)."
                    + ("" if isinstance(missing[0], str) else f" {ENCODED_LABELS_OF_VECTORS}")
                )
            features = [np.stack([_vector(self.encoder, label, n_features) for label in labels])]
        else:
            if names is None:
                raise ValueError(
                    f"The labels are numbers (such as {labels[0]!r}), which a text encoder cannot "
                    "use. Set class_names=[...], whose entry i names label i, or use string "
                    f"labels, or set text_encoder=None to learn from images alone. {ENCODED_LABELS}"
                )
            of_label, names = _flat(labels, names)
            blank = [label for label, name in zip(of_label, names, strict=True) if not words(name)]
            if blank:
                raise ValueError(
                    f"The name of the label {blank[0]!r} is blank. Name it in class_names, or "
                    "remove it."
                )
            _check_characters(of_label, names)
            self.check_names(of_label, names)
            encode = getattr(self.encoder, "encode_text", self.encoder)
            prompts = fill_templates(self.templates, names)
            features = [np.asarray(self._encode(encode, filled)) for filled in prompts]
        for matrix in features:
            _check_text_features(matrix, of_label, n_features)
        rows = [rescale_extreme_rows(matrix, np.dtype(float)) for matrix in features]
        of_names = unit(sum(map(unit, rows)))
        if len(of_label) == len(labels):
            return of_names
        position = {label: i for i, label in enumerate(labels)}
        of_classes = np.zeros((len(labels), of_names.shape[1]))
        np.add.at(of_classes, [position[label] for label in of_label], of_names)
        return unit(of_classes)

    def check_names(self, labels, names):
        """Check that no two labels are read as the same words, if names fill a template.

        Parameters
        ----------
        labels : sequence
        names : sequence of str or tuple of str

        Raises
        ------
        ValueError
            If two labels, or two names of one label, are read as the same words, or two labels are
            two Unicode forms of one string.
        """
        if isinstance(self.encoder, Mapping):
            return
        seen: dict[str, tuple[Any, str]] = {}
        forms: dict[str, str] = {}
        for label, name in zip(*_flat(labels, names), strict=True):
            if isinstance(label, str):
                form = forms.setdefault(composed(label), label)
                if form != label:
                    raise ValueError(
                        f"The labels {ascii(form)} and {ascii(label)} are two Unicode forms of one "
                        "string. Normalize labels and names, with "
                        "unicodedata.normalize('NFC', label)."
                    )
            read = composed(words(name).casefold())
            if read not in seen:
                seen[read] = label, name
                continue
            other, name_of_other = seen[read]
            if other == label:
                raise ValueError(
                    f"The names {name_of_other!r} and {name!r} of the label {label!r} read the "
                    "same. Remove one of them."
                )
            own = (other, label) == (name_of_other, name)
            raise ValueError(
                f"The names {name_of_other!r} and {name!r}"
                + ("" if own else f" of the labels {other!r} and {label!r}")
                + f" both read {words(name)!r} in a prompt. Give one of them another name in "
                "class_names, or merge them into one class."
            )

    def warn_of_codes(self, labels, names, given=()):
        """Warn once if names look like codes and fill a template.

        Parameters
        ----------
        labels : sequence
        names : sequence of str or tuple of str
        given : collection
            Labels that were given a name explicitly.
        """
        if isinstance(self.encoder, Mapping) or names is None:
            return
        codes = [
            (label, name)
            for label, name in zip(*_flat(labels, names), strict=True)
            if label not in given and looks_like_a_code(name)
        ]
        if codes:
            label, name = codes[0]
            others = f" and {len(codes) - 1} more names look" if len(codes) > 1 else " looks"
            warn_user(
                f"{name!r}{others} like a code, which means little to a text encoder. Map labels "
                f"to words with class_names={{{label!r}: ...}}.",
                TextFeaturesWarning,
            )

    def with_identity(self):
        """The same, which from now on embeds names by the present model only."""
        identify = getattr(self.encoder, "_present_identity", None)  # of a CLIPFeaturizer
        return self if identify is None else replace(self, identity=identify())

    def added(self, universe, names, n_features):
        """Add classes to a universe by their names, and embed them.

        Parameters
        ----------
        universe : LabelUniverse
        names : iterable of str, or mapping
            See :meth:`LabelUniverse.added`. If the encoder is a mapping, a mapping to vectors.
        n_features : int

        Returns
        -------
        added : LabelUniverse
        text_features : ndarray of shape (n_added, n_features)
        """
        has_vectors = isinstance(names, Mapping) and isinstance(self.encoder, Mapping)
        added = universe.added(list(names) if has_vectors else names)
        if not added.names:
            return added, np.empty((0, n_features))
        if has_vectors:
            features = replace(self, encoder=names)(list(names), added.names, n_features)
            return added, features
        if universe.names is not None:
            self.check_names([*universe.classes, *added.classes], [*universe.names, *added.names])
        features = self(added.classes, added.names, n_features)
        given = names if isinstance(names, Mapping) else ()
        self.warn_of_codes(added.classes, added.names, given)
        return added, features

    def unlisted(self, universe, labels, n_features):
        """Text features of labels of images that are not yet in a universe.

        Parameters
        ----------
        universe : LabelUniverse
        labels : list of str or int
            Strings name themselves; numbers must be keys of a mapping.
        n_features : int

        Returns
        -------
        text_features : ndarray of shape (n_labels, n_features)
        """
        if is_textual(universe.classes):
            self.check_names([*universe.classes, *labels], [*universe.names, *labels])
            return self(labels, labels, n_features)
        if not isinstance(self.encoder, Mapping):
            raise ValueError(
                f"The label {labels[0]!r} is not one of the classes_ and has no name. Use "
                "add_classes first, which returns a classifier that knows its name."
            )
        return self(labels, None, n_features)

    def _encode(self, encode, prompts):
        try:
            return encode(prompts)
        except WeightsNotAvailableError as error:
            if not self.default_model:
                raise
            raise WeightsNotAvailableError(
                f'text_encoder="auto" stands for {self.default_model!r}, whose weights are '
                "not available. Set text_encoder to the model that made X, or to None to learn "
                f"from images alone. ({error})"
            ) from error


def class_text_encoder(text_encoder, templates, n_features, device):
    """Resolve the parameter `text_encoder`; nothing is loaded.

    Parameters
    ----------
    text_encoder : "auto", None, CLIPFeaturizer, callable or mapping
    templates : str or list of str
    n_features : int
        Width of the image features.
    device : str or torch.device
        Device of the default CLIP.

    Returns
    -------
    encoder : ClassTextEncoder or None
        None if no text is used.
    reason : str
        Why no text is used.
    """
    if text_encoder is None:
        return None, "text_encoder=None"
    if not isinstance(text_encoder, str):
        return ClassTextEncoder(text_encoder, templates), ""
    from ..clip import CLIPFeaturizer  # open_clip is slow to import

    default = CLIPFeaturizer(device=device)
    width = len(default.get_feature_names_out())
    if n_features == width:
        return ClassTextEncoder(default, templates, default.model_name), ""
    return None, (
        f"X has {n_features} columns and the text features of the default CLIP have {width}"
    )


def fill_templates(templates, names):
    """Prompts of all classes under each template.

    Parameters
    ----------
    templates : str or list of str
        Each with one ``{}``, the place of the name of a class, read as words; see :func:`words`.
    names : list of str

    Returns
    -------
    prompts : list of list of str
        One list of ``len(names)`` prompts for each template.
    """
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not templates:
        raise ValueError("templates must not be empty. Give one, such as 'a photo of a {}.'.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                "A template must be a string with exactly one {} for the name of the class, such "
                f"as 'a photo of a {{}}.', got {template!r}."
            )
    names = [words(name) for name in names]
    return [[template.replace("{}", name) for name in names] for template in templates]


def words(name):
    """Read the name of a class as words: "ice_cream", "ice-cream" and "IceCream" as "ice cream".

    Underscores, and hyphens between two letters, become spaces. A hyphen next to a digit is part
    of a designation, such as "F-16" or "737-700", and is kept. In a name without spaces, a capital
    after a lower-case letter starts a word, and so does the last of several capitals before
    two lower-case letters ("SUVCar"). A single lower-case letter ("iPhone") is not a word.
    Capitals remain capitals. Accented letters are composed (Unicode form NFC).
    """
    name = composed(name)
    if len(name.split()) < 2:
        name = _CAPITAL.sub(" ", name)
    return " ".join(_HYPHEN.sub(" ", name.replace("_", " ")).split())


def composed(text):
    """The Unicode form NFC of a string: a letter and its accent are one character."""
    return normalize("NFC", text)


def looks_like_a_code(name):
    """Whether a name has a digit but no two lower-case letters in a row: "SKU-1042", "17"."""
    return bool(_DIGIT.search(name)) and not _WORD.search(name)


def _flat(labels, names):
    """Flat lists of labels, each repeated for all its names, and of names."""
    names = [(name,) if isinstance(name, str) else name for name in names]
    labels = [plain_label(label) for label in labels]
    return (
        [label for label, own in zip(labels, names, strict=True) for _ in own],
        [name for own in names for name in own],
    )


def _check_characters(labels, names):
    """Check that names can be encoded; half of a surrogate pair cannot."""
    for label, name in zip(labels, names, strict=True):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"The name {ascii(name)} of the label {ascii(label)} contains half of a surrogate "
                "pair, which is not a character. Replace it."
            ) from None


def _vector(vectors, label, n_features):
    """The vector of a label, checked, with errors that name the label."""
    try:
        vector = np.asarray(vectors[label], dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The text vector of {label!r} must hold numbers: {error}.") from error
    if vector.shape != (n_features,):
        raise ValueError(
            f"The text vector of {label!r} has shape {vector.shape}, but X has {n_features} "
            "columns. Text vectors and X must come from the same model."
        )
    return vector


def _check_text_features(matrix, labels, n_features):
    n_classes = len(labels)
    if matrix.ndim != 2 or len(matrix) != n_classes:
        raise ValueError(
            f"text_encoder returned an array of shape {matrix.shape} for {n_classes} prompts, "
            f"expected ({n_classes}, {n_features})."
        )
    if matrix.shape[1] != n_features:
        raise ValueError(
            f"Text features have {matrix.shape[1]} columns, but X has {n_features}. Both must "
            "come from the same model. make_candle_pipeline sets both from one name."
        )
    if not np.isfinite(matrix.astype(float)).all():
        raise ValueError("text_encoder returned NaN or infinite values.")
    empty = np.flatnonzero(~matrix.any(axis=1))
    if len(empty):
        raise ValueError(
            f"The text feature of {labels[empty[0]]!r} is all zeros; an embedding must have a "
            "direction. Check text_encoder."
        )


def warn_at_chance(X, y, text_features):
    """Warn if zero-shot predictions of the training images are no better than guessing."""
    seen, y = np.unique(y, return_inverse=True)
    if text_features is None or len(seen) < 2 or len(y) < MIN_IMAGES_FOR_CHANCE:
        return
    n_seen, n_images = len(seen), len(y)
    predicted = np.argmax(X @ text_features[seen].T, axis=1)
    hits = int((predicted == y).sum())
    # accuracy of random answers with the same class frequencies as the predictions
    frequency = np.bincount(predicted, minlength=n_seen) / n_images
    chance = float(frequency @ np.bincount(y, minlength=n_seen) / n_images)
    kappa = (hits / n_images - chance) / max(1 - chance, 1e-12)
    if kappa < 0.1 and binom.sf(hits - 1, n_images, chance) > 0.05:
        warn_user(
            f"Zero-shot predictions are correct for {hits} of {n_images} training images, which is "
            f"no better than guessing among {n_seen} classes. Text and image features do not seem "
            "to come from the same model. Check text_encoder and the names of the classes.",
            TextFeaturesWarning,
        )
