"""The quick start: a long tail of emoji, a third of them known by name alone."""

import html
from pathlib import Path

from .cli._outputs import check_output, replacing

PICTURE, PAGE = "skcandle_demo.png", "index.html"
N_COLUMNS, N_ROWS = 8, 4  # images in the picture


def main(folder, *, force=False):
    """Fit on the bundled emoji and write a picture and a page.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    force : bool, default=False
        Whether to replace the files of an earlier call.

    Returns
    -------
    paths : list of Path
        The picture and the page.

    Raises
    ------
    FileExistsError
        If one of the files exists, and not `force`.
    ImportError
        If matplotlib is not installed.
    """
    folder = Path(folder)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The demo draws a picture with matplotlib: pip install 'skcandle[plots]'."
        ) from error
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise FileExistsError(f"{str(folder)!r} is a file; a folder is needed.") from None
    except OSError as error:
        raise type(error)(
            f"The folder {str(folder)!r} cannot be made: {error.strerror}."
        ) from error
    paths = [folder / PICTURE, folder / PAGE]
    for path in paths:
        check_output(path, force)
    task = _task()
    pipe = _fit(task)
    answers = pipe.predict(task.X_test)
    scores = _scores(pipe, task)
    with replacing(paths[0], force) as temporary:
        _draw(task, answers, temporary)
    with replacing(paths[1], force) as temporary:
        temporary.write_text(_page(task, scores), encoding="utf-8")
    return paths


def _task():
    """Two thirds of the images for training, without those of a third of the classes."""
    import numpy as np
    from sklearn.model_selection import train_test_split
    from sklearn.utils import Bunch

    from .datasets import load_emoji, make_long_tailed
    from .model_selection import base_new_split

    emoji = load_emoji()
    train, test = train_test_split(
        np.arange(len(emoji.target)), test_size=1 / 3, stratify=emoji.target, random_state=0
    )
    base, new = base_new_split(emoji.target, new_fraction=1 / 3, random_state=0)
    train = train[np.isin(emoji.target[train], base)]
    train = train[
        make_long_tailed(
            emoji.target[train], n_max=25, imbalance_ratio=1 / 25, order="natural", random_state=0
        )
    ]
    return Bunch(
        X_train=[emoji.images[i] for i in train],
        y_train=emoji.target[train],
        X_test=[emoji.images[i] for i in test],
        y_test=emoji.target[test],
        base=base,
        new=new,
    )


def _fit(task):
    from ._bundled import BUNDLED_MODEL
    from .pipeline import make_candle_pipeline

    pipe = make_candle_pipeline(BUNDLED_MODEL, new_classes=task.new.tolist(), random_state=0)
    return pipe.fit(task.X_train, task.y_train)


def _scores(pipe, task):
    """Joint accuracies of CLIP by names alone and of the pipeline."""
    from .metrics import base_new_report

    clip, candle = pipe["clip"], pipe["candle"]
    X = clip.transform(task.X_test)
    logits = {
        "CLIP by names alone": 100 * X @ candle.text_features_.T,
        "skcandle": candle.predict_log_proba(X),
    }
    return {
        method: base_new_report(
            task.y_test, score, classes=pipe.classes_, new_classes=task.new, output_dict=True
        )
        for method, score in logits.items()
    }


def _draw(task, answers, path):
    """Test images of classes without a training image, with their answers."""
    import numpy as np
    from matplotlib.figure import Figure

    of_new = np.flatnonzero(np.isin(task.y_test, task.new))
    shown = np.random.default_rng(0).permutation(of_new)[: N_COLUMNS * N_ROWS]
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle("Classes without a training image: what the classifier answers")
    for i, axes in zip(shown, figure.subplots(N_ROWS, N_COLUMNS).flat, strict=True):
        axes.imshow(task.X_test[i])
        axes.axis("off")
        right = answers[i] == task.y_test[i]
        title = answers[i] if right else f"{answers[i]}\nnot {task.y_test[i]}"
        axes.set_title(title, color="#0072B2" if right else "#B34700", fontsize=9)
    figure.savefig(path, dpi=110)


def _page(task, scores):
    columns = ("joint_base", "joint_new", "joint_harmonic_mean")
    rows = "".join(
        f"<tr><th scope=row>{html.escape(method)}</th>"
        + "".join(f"<td>{100 * report[column]:.1f} %</td>" for column in columns)
        + "</tr>\n"
        for method, report in scores.items()
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>skcandle: quick start</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem }}
body {{ margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100% }}
th {{ text-align: left; font-weight: normal }}
td {{ text-align: right }}
th, td {{ padding: 0.2rem 1rem 0.2rem 0 }}
</style>
<h1>skcandle: quick start</h1>
<p>{len(task.base)} classes of emoji had {len(task.y_train)} training images, 25 to 1 each;
{len(task.new)} classes had a name and no image. Each of {len(task.y_test)} test images was to be
told from all {len(task.base) + len(task.new)} classes.</p>
<table>
<tr><th></th><td>with images</td><td>by name alone</td><td>harmonic mean</td></tr>
{rows}</table>
<p><img src="{PICTURE}" alt="Test images of classes without a training image, with answers"></p>
</html>
"""
