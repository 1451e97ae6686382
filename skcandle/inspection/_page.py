"""The report as one HTML file that contains its style, script and images."""

import base64
import hashlib
from functools import cache
from math import log1p

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from .. import _version
from ._label_errors import MISSING_CLEANLAB
from ._thumbnails import image_name, image_path, thumbnails

N_IN_GROUP = 8  # images shown per group of duplicates
N_IN_CONFUSION = 6
CROSS_VALIDATED = (
    "The classifier was fitted on {these} images. The prediction for each of them comes from a "
    "copy of the classifier without it (five folds, with the weights that were estimated on all "
    "images)."
)
IN_SAMPLE = (
    "The classifier was fitted on {these} images. Its predictions for them are more accurate than "
    "for others, so accuracies and errors here are optimistic."
)


@cache
def _environment():
    """Jinja environment that escapes everything not marked as HTML."""
    environment = Environment(
        loader=PackageLoader("skcandle.inspection"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["count"] = _count
    return environment


def render(template, **content):
    """Fill a template from the folder ``templates``.

    Parameters
    ----------
    template : str
    **content : dict

    Returns
    -------
    html : str
    """
    return _environment().get_template(template).render(**content)


def report_page(
    answers, findings, images, flags, unreadable, *, title, n_shown, thumbnail_size
) -> str:
    """Create the page of a report.

    Parameters
    ----------
    answers : Answers
    findings : Findings
    images : list
    flags : list of Flag
    unreadable : dict of int to str
    title : str
    n_shown : int
        Maximum number of images, or groups of duplicates, per section.
    thumbnail_size : int

    Returns
    -------
    html : str
    """
    sections = _Sections(answers, findings, images, n_shown)
    script = _source("report.js")
    return render(
        "report.html",
        title=title,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=_version.__version__,
        notes=_notes(answers, findings),
        tiles=_tiles(answers, findings, len(images), unreadable),
        chart=_tail_chart(findings.classes),
        findings=findings,
        has_labels=answers.y is not None,
        missing_cleanlab=None if findings.has_cleanlab else MISSING_CLEANLAB,
        **sections.content(),
        unreadable=[
            (image_name(images[position], position), reason)
            for position, reason in unreadable.items()
        ],
        src=thumbnails(images, sections.shown, thumbnail_size),
        size=thumbnail_size,
        flags=flags,
    )


class _Sections:
    """Cards of the images in each section; `shown` collects the images that need thumbnails."""

    def __init__(self, answers, findings, images, n_shown):
        self.answers, self.findings, self.images = answers, findings, images
        self.n_shown = n_shown
        self.shown = set()

    def content(self):
        """Cards by their names in the template."""
        findings, n_shown = self.findings, self.n_shown
        return {
            "confusions": [
                (pair, self._cards(pair.rows[:N_IN_CONFUSION]))
                for pair in findings.confusions or []
            ],
            "errors": self._cards(findings.errors),
            "label_errors": self._cards(findings.label_errors),
            "uncertain": self._cards(findings.uncertain),
            "novel": self._cards(findings.novel),
            "duplicates": [
                (group, self._cards(group.rows[:N_IN_GROUP]))
                for group in findings.duplicates[:n_shown]
            ],
        }

    def _cards(self, rows):
        return [] if rows is None else [self._card(row) for row in rows[: self.n_shown]]

    def _card(self, row):
        answers, position = self.answers, int(self.answers.positions[row])
        self.shown.add(position)
        label = None if answers.y is None else answers.y[row]
        return {
            "position": position,
            "name": image_name(self.images[position], position),
            "path": image_path(self.images[position]),
            "label": label,
            "answer": answers.y_pred[row],
            "is_right": None if label is None else bool(label == answers.y_pred[row]),
            "confidence": float(answers.confidence[row]),
        }


def _source(name):
    """Source of a script that becomes part of the page."""
    return _environment().loader.get_source(_environment(), name)[0]


def _notes(answers, findings):
    notes = []
    if answers.n_training:
        n_images = len(answers.positions)
        these = "these" if answers.n_training == n_images else f"{answers.n_training:,} of these"
        note = CROSS_VALIDATED if answers.is_cross_validated else IN_SAMPLE
        notes.append(note.format(these=these))
    if findings.unknown_labels:
        listed = ", ".join(map(str, findings.unknown_labels[:5]))
        more = ", ..." if len(findings.unknown_labels) > 5 else ""
        notes.append(
            f"The classifier does not know {len(findings.unknown_labels)} of the labels "
            f"({listed}{more}); images with these labels count as errors."
        )
    return notes


def _tiles(answers, findings, n_images, unreadable):
    """Numbers at the top: value, description, and link."""
    n_new = sum(row.is_new for row in findings.classes)
    classes = f"classes, {n_new} without a training image" if n_new else "classes"
    tiles = [
        (f"{n_images:,}", _noun(n_images, "image"), None),
        (f"{len(findings.classes):,}", classes, "#classes"),
    ]
    if findings.accuracy is not None:
        text = "mean per-class accuracy"
        if findings.zero_shot_accuracy is not None:
            text += f" (zero-shot CLIP {_percent(findings.zero_shot_accuracy)})"
        tiles.append((_percent(findings.accuracy), text, "#errors"))
    if findings.label_errors is not None:
        n_errors = len(findings.label_errors)
        tiles.append((f"{n_errors:,}", _noun(n_errors, "doubtful label"), "#label-errors"))
    several = sum(len(group.labels) > 1 for group in findings.duplicates)
    n_groups = len(findings.duplicates)
    text = f"{_noun(n_groups, 'group')} of near-duplicates"
    if several:
        text += f", {several} across classes"
    tiles.append((f"{n_groups:,}", text, "#duplicates"))
    if unreadable:
        n_unreadable = len(unreadable)
        tiles.append((f"{n_unreadable:,}", _noun(n_unreadable, "unreadable image"), "#unreadable"))
    return tiles


def _noun(n, noun):
    """A noun in the number that follows from a count."""
    return noun if n == 1 else f"{noun}s"


def _tail_chart(rows):
    """Bars of all classes, from many images to none, in percent of the width and height.

    The height is logarithmic in the number of training images, or, if that is unknown, in the
    number of images or predictions here.
    """
    if rows[0].n_train is not None:
        what, counts = "training images", [row.n_train for row in rows]
    elif rows[0].n_images is not None:
        what, counts = "images", [row.n_images for row in rows]
    else:
        what, counts = "predictions", [row.n_answers for row in rows]
    highest = log1p(max(*counts, 1))
    width = 100 / len(rows)
    bars = [
        {
            "x": width * index,
            "width": 0.86 * width,
            "height": 100 * log1p(count) / highest,
            "recall": row.recall,
            "is_new": row.is_new,
            "text": f"{row.label}: {_count(count)} {what}"
            + ("" if row.recall is None else f", recall {_percent(row.recall)}"),
        }
        for index, (row, count) in enumerate(zip(rows, counts, strict=True))
    ]
    ticks = [n for n in (1, 10, 100, 1000, 10000, 100000) if n <= max(counts)]
    top = max(counts)
    if top > 1.5 * (ticks[-1] if ticks else 0):
        ticks.append(top)
    return {
        "what": what,
        "bars": bars,
        "ticks": [(_count(n), 100 * log1p(n) / highest) for n in ticks],
        "new_from": width * sum(not row.is_new for row in rows),
        "n_new": sum(row.is_new for row in rows),
        "has_recall": any(row.recall is not None for row in rows),
    }


def _percent(share):
    return f"{100 * share:.0f}\u202f%"


def _count(number):
    """Format a count, which is an integer unless samples have weights."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"
