"""The picture of the quick start."""

from itertools import pairwise

import numpy as np

from ...inspection._reliability import draw_curve, reliability
from ...inspection._style import BLUE, GREY, ORANGE, SKY, VERMILION, plain, shortened
from ._evaluation import BAND_KEYS, BANDS, CANDLE, GATED, METHODS, ZERO_SHOT
from ._summary import BAND_TEXTS, MEASURES, of_method

COLOURS = {ZERO_SHOT: GREY, GATED: "#B87A00", CANDLE: BLUE}  # darker orange for text
FILLS = {**COLOURS, GATED: ORANGE}
MARKERS = {ZERO_SHOT: "s", GATED: "D", CANDLE: "o"}
LINES = {ZERO_SHOT: "--", GATED: "-.", CANDLE: "-"}
LEGEND = {
    ZERO_SHOT: "zero-shot CLIP\n(names alone)",
    GATED: "gated logistic\nregression",
    CANDLE: "Candle\n(this library)",
}
N_BINS = 10  # in the reliability curve
FIGURE_SIZE = (8.4, 8.2)  # inches; 840 pixels wide at 100 dots per inch


def new_figure(evaluation):
    """Draw the picture in a figure without a window.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    figure : matplotlib Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    draw(evaluation, figure)
    return figure


def draw(evaluation, figure):
    """Draw the picture.

    Parameters
    ----------
    evaluation : Evaluation
    figure : matplotlib Figure
        Empty, of the size ``FIGURE_SIZE``.
    """
    names, numbers = figure.subfigures(2, 1, height_ratios=(1, 3.1))
    _draw_names(names, evaluation)
    axes = numbers.subplot_mosaic(
        [["tail", "totals"], ["bands", "reliability"]],
        width_ratios=(1.55, 1),
        height_ratios=(1, 1.5),
    )
    counts = evaluation.class_counts()
    edges = [0, *(np.count_nonzero(counts >= least) for least in BANDS), len(counts)]
    _draw_tail(axes["tail"], counts, edges)
    _draw_bands(axes["bands"], evaluation, edges)
    _draw_totals(axes["totals"], evaluation)
    _draw_reliability(axes["reliability"], evaluation)


def _title(axes, text):
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")


def _draw_names(figure, evaluation):
    """Images of classes added by name, with the predictions before and after."""
    typed, images, counts = evaluation.typed[0], evaluation.data.images, evaluation.typed_counts()
    figure.suptitle(
        f"{len(typed.names)} classes added by name after training, without images: 0 of "
        f"{counts.n_images} correct before, then {counts.n_right}",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    n_base = len(evaluation.data.classes) - len(evaluation.first.new)
    figure.supxlabel(
        f"Trained on {n_base} other kinds of emoji. Numbers are totals of {evaluation.n_draws} "
        "draws; images were drawn at random.",
        x=0.01,
        ha="left",
        fontsize=9,
        color=GREY,
    )
    n_images = len(typed.shown)
    words, *cells = figure.subplots(1, 1 + n_images, width_ratios=(0.5, *n_images * [1]))
    words.set_box_aspect(2)  # as high as the images
    words.set_title("before:", fontsize=9, color=GREY)
    words.set_xlabel("after:", fontsize=9, fontweight="bold")
    for index, (axes, position) in enumerate(zip(cells, typed.shown, strict=True)):
        axes.imshow(images[position])
        before, after = (shortened(answers[index], 11) for answers in (typed.before, typed.after))
        is_right = typed.after[index] == evaluation.data.y[position]
        axes.set_title(f"✗ {before}", fontsize=9, color=GREY)
        axes.set_xlabel(
            f"{'✓' if is_right else '✗'} {after}",
            fontsize=9,
            fontweight="bold",
            color=BLUE if is_right else VERMILION,
        )
    for axes in (words, *cells):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)


def _show_bands(axes, edges):
    """Mark the bands of classes in the same way in both plots; new classes are shaded."""
    plain(axes)
    axes.grid(False, axis="x")
    axes.set_xlim(-0.5, edges[-1] - 0.5)
    axes.axvspan(edges[-2] - 0.5, edges[-1] - 0.5, color=SKY, alpha=0.18, linewidth=0)
    for edge in edges[1:-2]:
        axes.axvline(edge - 0.5, color="#C8C8C8", linewidth=0.8)


def _draw_tail(axes, counts, edges):
    n_base, n_all = edges[-2:]
    _title(axes, f"Training data: images of {n_base} kinds, names of {n_all}")
    _show_bands(axes, edges)
    axes.bar(np.arange(n_all), counts, width=1, color="#555555")
    middle = (n_base + n_all) / 2
    text = f"{n_all - n_base} kinds:\nname only"
    axes.text(middle, counts[0] / 2, text, ha="center", va="center", fontsize=9.5)
    axes.set_ylabel("training images")
    axes.set_xticks([])


def _draw_bands(axes, evaluation, edges):
    _title(axes, f"Accuracy among all {edges[-1]} kinds")
    _show_bands(axes, edges)
    for (left, right), key in zip(pairwise(edges), BAND_KEYS, strict=True):
        for place, method in enumerate(METHODS):
            x = left - 0.5 + (right - left) * (place + 0.75) / 3.5
            value = of_method(evaluation, key, method)
            style = {"color": COLOURS[method], "fontsize": 9, "fontweight": "bold"}
            axes.errorbar(
                x,
                value.mean,
                value.half,
                fmt=MARKERS[method],
                color=FILLS[method],
                capsize=3,
                markersize=7,
                elinewidth=1.5,
            )
            axes.annotate(
                f"{value.mean:.0f}",
                (x, value.mean + value.half),
                (0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                **style,
            )
    axes.margins(y=0.12)
    centres = [(left + right - 1) / 2 for left, right in pairwise(edges)]
    axes.set_xticks(centres, [BAND_TEXTS[key].replace(" images", "\nimages") for key in BAND_KEYS])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("accuracy (%)")


def _draw_totals(axes, evaluation):
    """A small table of results on all test images; it is also the legend of the other plots."""
    _title(axes, "All test images")
    columns = {
        "accuracy": (0.66, "accuracy\n(%)"),
        "log_loss": (1.02, "log-loss\n(low is good)"),
    }
    for x, text in columns.values():
        axes.text(x, -0.75, text, ha="right", va="center", fontsize=8.5)
    for row, method in enumerate(METHODS):
        style = {"va": "center", "color": COLOURS[method], "fontsize": 9.5}
        axes.plot(0.02, row, MARKERS[method], color=FILLS[method], markersize=8)
        axes.text(0.08, row, LEGEND[method], **style)
        for key, (x, _) in columns.items():
            digits = MEASURES[key].digits
            value = of_method(evaluation, key, method)
            axes.text(x, row, f"{value.mean:.{digits}f}", ha="right", fontweight="bold", **style)
    note = f"Means of {evaluation.n_draws} draws; bars: 95 % intervals."
    axes.text(0, len(METHODS) - 0.15, note, fontsize=8.5, va="center")
    axes.set(xlim=(-0.02, 1.02), ylim=(len(METHODS), -1.2))
    axes.axis("off")


def _draw_reliability(axes, evaluation):
    _title(axes, "Are the probabilities right?")
    axes.plot([0, 1], [0, 1], color="#9A9A9A", linewidth=1, linestyle=":")
    for place, method in enumerate(METHODS):
        curve = reliability(
            evaluation.y_true, evaluation.proba[method], evaluation.data.classes, N_BINS
        )
        draw_curve(axes, curve, method, FILLS[method], MARKERS[method], LINES[method])
        error = of_method(evaluation, "ece", method)
        style = {"color": COLOURS[method], "fontsize": 9, "fontweight": "bold"}
        _on_white(axes, 0.17 - 0.075 * place, f"{error.mean:.1f} %", **style)
    _on_white(axes, 0.245, "calibration error", fontsize=9)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    axes.set_yticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    axes.set(xlabel="confidence (%)", ylabel="accuracy (%)")
    plain(axes)


def _on_white(axes, y, text, **style):
    """Write a text at the right edge, over the grid."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(0.98, y, text, ha="right", va="center", bbox=box, **style)
