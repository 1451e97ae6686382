"""The work of each command, step by step."""

import sys

import numpy as np

from .._images.urls import is_url
from .._warnings import warn_user
from ._answers import answer_rows
from ._evaluation import (
    base_new_lines,
    confusion_lines,
    predictions,
    provenance,
    rejected,
    score_lines,
)
from ._failures import note, say
from ._images import (
    check_problems,
    encode,
    labelled_images,
    readable,
    unlabelled_embeddings,
    unlabelled_images,
)
from ._models import load_model, save_model
from ._sorting import sort_into
from ._tables import show, write
from ._unlabelled import check_learns, learn, without_training_images


def fit_model(
    photos,
    output,
    *,
    new_classes,
    names,
    unlabelled,
    model,
    template,
    columns,
    on_error,
    reject,
    cache,
    device,
    force,
):
    """``skcandle fit``."""
    from ..classifier import RejectingClassifier
    from ..hub._model_files import fitted_candle
    from ..pipeline import make_candle_pipeline

    image_column, label_column = columns
    data = labelled_images(photos, image_column, label_column)
    for name in sorted(set(data.empty_names).difference(new_classes or [])):
        say(f"Note: the folder {name!r} is empty; --new {name!r} adds the class by name.")
    pipe = make_candle_pipeline(
        *model,
        new_classes=new_classes,
        class_names=_class_names(names, data.target_names, new_classes),
        templates=template,
        device=device,
        cache=cache,
        verbose=_verbose(),
    )
    _check_classes(data.target_names, pipe["candle"])
    if reject is not None:
        _check_reject_label(data.target_names, new_classes)
        rejecting = RejectingClassifier(pipe["candle"], rejection_rate=reject)
        pipe.set_params(candle=rejecting)
    pipe["clip"].fit(data.images)
    images = readable(pipe["clip"], data, on_error)
    if unlabelled:
        X, contents = unlabelled_embeddings(pipe["clip"], unlabelled, image_column, on_error)
    pipe["candle"].fit(images.X, images.y)
    candle = fitted_candle(pipe)
    candle._training_images = candle._training_images.with_contents(images.X, images.contents)
    fitted, X_unlabelled = pipe["candle"], None
    if unlabelled:
        X_unlabelled = without_training_images(fitted, X, contents)
        pipe = _with(pipe, learn(fitted, X_unlabelled))
    save_model(pipe, output, force)
    note(
        f"{output}: {len(candle.classes_)} classes, {candle.is_new_.sum()} of them by name only, "
        f"from {len(images.y)} images."
    )
    if not len(images.y):
        return
    found = predictions(fitted, images.X, images.contents, unlabelled=X_unlabelled)
    if found.is_out_of_fold:
        print("Estimate for new images, from copies of the model without the images (five folds)")
        for line in score_lines(found, candle, images.y):
            print(line)


def predict_images(
    places,
    model_file,
    *,
    classes,
    adapt,
    output,
    top,
    min_probability,
    sort_folder,
    link,
    model,
    template,
    image_column,
    on_error,
    cache,
    device,
    force,
    trust,
):
    """``skcandle predict``."""
    from ..hub._model_files import fitted_candle

    files, reasons, skipped = unlabelled_images(places, image_column)
    urls = [file for file in files if is_url(file)]
    if sort_folder is not None and urls:
        raise ValueError(f"--sort-into needs files on this machine, but {urls[0]!r} is a URL.")
    if model_file is None:
        pipe = _pipeline_of_names(classes, model, template, cache, device)
    else:
        pipe = load_model(model_file, trust=trust)
    clip, classifier = _configured(pipe["clip"], cache, device), pipe["candle"]
    fitted_candle(pipe).set_params(device=device)
    if adapt:
        check_learns(classifier, model_file)
    labels = _label_names(classifier)
    proba = np.full((len(files), len(labels)), np.nan)
    is_rejected = np.zeros(len(files), dtype=bool)
    kept = [i for i in range(len(files)) if i not in reasons]
    if kept:
        X, unreadable, contents = encode(clip, [files[i] for i in kept])
        reasons |= {kept[i]: reason for i, reason in unreadable.items()}
        if adapt:
            classifier = learn(classifier, without_training_images(classifier, X, contents))
        proba[kept] = classifier.predict_proba(X)
        is_rejected[kept] = rejected(classifier, X)
    unsure = set(np.flatnonzero(is_rejected | (proba.max(axis=1) < min_probability)).tolist())
    problems = [(files[i], reason) for i, reason in reasons.items()] + list(skipped.items())
    n_images = len(files) + len(skipped)
    if on_error == "raise":
        check_problems(problems, n_images, on_error)
    elif problems:
        file, reason = min(problems)
        say(f"Warning: {len(problems)} of {n_images} images cannot be read; {file!r} {reason}.")
    rows = answer_rows(files, proba, labels, top, reasons, skipped, unsure)
    if unsure:
        note(f"{len(unsure)} of {n_images} images get no label.")
    if output is not None:
        write(rows, output, force)
        note(f"{output}: {len(rows)} rows.")
    if sort_folder is not None:
        answered = {row["file"]: row["label"] for row in rows if not row["error"]}
        n_files = sort_into(sort_folder, list(answered), list(answered.values()), link=link)
        note(f"{sort_folder}: {n_files} {'links' if link else 'copies'}.")
    if output is None and sort_folder is None:
        show(rows)
    if len(problems) == n_images:
        raise ValueError("None of the images can be read.")


def _pipeline_of_names(classes, model, template, cache, device):
    """A pipeline that knows classes by name only, with the answers of zero-shot CLIP."""
    from ..pipeline import make_candle_pipeline

    pipe = make_candle_pipeline(
        *model,
        new_classes=list(dict.fromkeys(classes)),
        templates=template,
        device=device,
        cache=cache,
    )
    return pipe.fit([], [])


def evaluate_model(
    model, photos, *, report, columns, is_training, on_error, cache, device, force, trust
):
    """``skcandle evaluate``."""
    from ..hub._model_files import fitted_candle

    pipe = load_model(model, trust=trust)
    clip = _configured(pipe["clip"], cache, device)
    candle = fitted_candle(pipe).set_params(device=device)
    image_column, label_column = columns
    data = labelled_images(photos, image_column, label_column)
    unknown = sorted(set(data.target_names.tolist()).difference(_label_names(candle)))
    if unknown:
        raise ValueError(
            f"The model does not know {len(unknown)} of the classes in {str(photos)!r}, such as "
            f"{unknown[0]!r}. `skcandle add` adds classes by name."
        )
    images = readable(clip, data, on_error)
    found = predictions(pipe["candle"], images.X, images.contents, is_training)
    if provenance(found):
        print(provenance(found))
    for lines in (score_lines, base_new_lines, confusion_lines):
        for line in lines(found, candle, images.y):
            print(line)
    if report is not None:
        from ..inspection import ImageReport

        page = ImageReport(
            type(pipe)([("clip", clip), ("candle", candle)]),
            images.files,
            _labels_of(candle, images.y),
            is_training="auto" if is_training is None else is_training,
        )
        page.save(report, overwrite=force)
        note(f"{report}: a report to open in a browser.")


def add_classes(model, names, output, *, force, trust):
    """``skcandle add``."""
    pipe = load_model(model, trust=trust)
    names = list(dict.fromkeys(names))
    known = sorted(set(names).intersection(_label_names(pipe["candle"])))
    if known:
        raise ValueError(f"The model already has the class {known[0]!r}.")
    _save(_with(pipe, pipe["candle"].add_classes(names)), output, force)


def add_images_to_model(model, photos, output, *, columns, on_error, cache, device, force, trust):
    """``skcandle add-images``."""
    from ..hub._model_files import fitted_candle

    pipe = load_model(model, trust=trust)
    clip = _configured(pipe["clip"], cache, device)
    candle = fitted_candle(pipe).set_params(device=device)
    image_column, label_column = columns
    data = labelled_images(photos, image_column, label_column)
    X, contents, _, y = readable(clip, data, on_error)
    new = sorted(set(y.tolist()).difference(map(str, candle._every_class.classes)))
    if new:
        note(
            f"1 new class: {new[0]!r}."
            if len(new) == 1
            else f"{len(new)} new classes, such as {new[0]!r}."
        )
    n_known = sum(map(bool, candle._training_images.entries_of(X, contents)))
    if n_known:
        warn_user(
            f"The model was already fitted on {n_known} of the {len(X)} images, which now count "
            "once more."
        )
    grown = _with(pipe, pipe["candle"].add_images(X, _labels_of(candle, y)))
    candle = fitted_candle(grown)
    candle._training_images = candle._training_images.with_contents(X, contents)
    _save(grown, output, force)


def restrict_classes(model, names, output, *, keep, force, trust):
    """``skcandle restrict`` and ``skcandle remove``."""
    from ..hub._model_files import fitted_candle

    pipe = load_model(model, trust=trust)
    candle = fitted_candle(pipe)
    labels = _label_names(candle)
    unknown = sorted(set(names).difference(labels))
    if unknown:
        raise ValueError(
            f"The model has no class {unknown[0]!r}; `skcandle info {model}` lists its classes."
        )
    kept = [name for name in labels if (name in names) == keep]
    if not kept:
        raise ValueError("No class would be left.")
    _save(_with(pipe, pipe["candle"].restrict(_labels_of(candle, kept))), output, force)


def _with(pipe, classifier):
    """A pipeline with another classifier."""
    return type(pipe)([("clip", pipe["clip"]), ("candle", classifier)])


def _save(pipe, output, force):
    save_model(pipe, output, force)
    n_classes = len(pipe["candle"].classes_)
    note(f"{output}: {n_classes} class{'' if n_classes == 1 else 'es'}.")


def _label_names(candle):
    """Labels as the names of folders."""
    return list(map(str, candle.classes_))


def _labels_of(candle, names):
    """The labels with these names, which a model from Python may have as numbers.

    Among them are classes that `restrict` has left out, which first images bring back.
    """
    labels = {str(label): label for label in candle._every_class.classes.tolist()}
    return np.array([labels.get(name, name) for name in map(str, names)])


def export_model(model, output, *, head_only, force, trust):
    """``skcandle export``."""
    from ..export import to_onnx

    pipe = load_model(model, trust=trust)
    to_onnx(pipe["candle"] if head_only else pipe, output, overwrite=force)


def _class_names(table, labels, new_classes):
    """Names of all labels, synonyms in lists; a label that is not in the table is its own name."""
    if table is None:
        return None
    from .._image_files import read_columns

    listed, names = read_columns(table, ["label", "name"])
    known = [*map(str, labels), *(new_classes or [])]
    found: dict[str, list[str]] = {}
    for label, name in zip(listed, names, strict=True):
        found.setdefault(label, []).append(name)
    given = {label: names[0] if len(names) == 1 else names for label, names in found.items()}
    return {label: label for label in known} | given


def _check_classes(labels, candle):
    """Raise an error, before images are encoded, if there is only one class."""
    known = {*map(str, labels), *(candle.new_classes or []), *(candle.class_names or [])}
    if len(known) < 2:
        raise ValueError(
            f"There is only one class, {known.pop()!r}. Add a folder for another class, or name "
            "classes without images with --new."
        )


def _check_reject_label(labels, new_classes):
    """Raise an error if a class has the label of images without a class."""
    if "unknown" in {*map(str, labels), *(new_classes or [])}:
        raise ValueError(
            "A class cannot be called 'unknown' with --reject, which needs this label for images "
            "that look like none of the classes. Rename the class."
        )


def _configured(clip, cache, device):
    return clip.set_params(cache=cache, device=device, verbose=_verbose())


def _verbose():
    return int(sys.stderr.isatty())
