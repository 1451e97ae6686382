"""
Beyond one machine: encode, fit and predict on Dask
===================================================

A Dask cluster encodes images into a folder of Parquet files. One of its workers is killed in the
process, and more images arrive later, but each image is stored only once. A classifier is fitted on
the labelled images, and the cluster writes predictions for all images.

Here, the cluster consists of two processes on this machine, and the model is ``emoji-clip``. To use
a real cluster, only change the address in ``Client(...)``.
"""

import logging
import os
import tempfile
import threading
import time
from pathlib import Path

import dask.dataframe
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
from distributed import Client, LocalCluster
from PIL import Image

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji
from skcandle.scale_out import encode_dataset, predict_dataset, read_embeddings


def save_emoji(folder):
    """Write the emoji as files, and return a table of their paths, classes and styles."""
    emoji = load_emoji()
    folder.mkdir()
    paths = [str(folder / f"{i:04}.png") for i in range(len(emoji.images))]
    for path, image in zip(paths, emoji.images, strict=True):
        image.save(path)
    return pd.DataFrame({"path": paths, "label": emoji.target, "style": emoji.styles})


def stored(folder):
    """The time at which each part was stored, and the number of images stored by then."""
    parts = sorted(folder.glob("part-*"), key=lambda part: part.stat().st_mtime_ns)
    sizes = [len(dask.dataframe.read_parquet(part, columns=["key"])) for part in parts]
    return np.array([part.stat().st_mtime for part in parts]), np.cumsum(sizes)


def kill_a_worker(pid, folder, n_parts, killed):
    """Kill a process as soon as the folder has a number of parts."""
    while len(list(folder.glob("part-*"))) < n_parts:
        time.sleep(0.02)
    psutil.Process(pid).kill()
    killed.append(time.time())


# %%
# Worker processes import this file, so the work is in a function.


def main(root):
    table = save_emoji(root / "images")
    clip = CLIPFeaturizer("emoji-clip")
    folder, out = root / "embeddings", root / "predictions"

    # A killed process cannot clean up, and Python warns about this at the end.
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster) as client:
        # The first images. Both workers load the model beforehand, so that the figure shows
        # encoding only.
        first = table[table["style"] == "twemoji"]
        client.run(clip.transform, [first["path"].iloc[0]])
        start, killed, lost = time.time(), [], cluster.workers[0]
        lost.close_gracefully()  # as if its machine had failed: no process replaces it
        killer = threading.Thread(target=kill_a_worker, args=(lost.pid, folder, 6, killed))
        killer.start()
        encode_dataset(first["path"], folder, clip, shard_size=32)
        killer.join()
        keys, _ = read_embeddings(folder)
        print(
            f"first call: {len(first)} images; a worker was killed after "
            f"{killed[0] - start:.1f} s; {len(keys)} images stored, {len(set(keys))} distinct"
        )

        # %%
        # More images have arrived. The call is the same, with all paths.
        again = time.time()
        encode_dataset(table["path"], folder, clip, shard_size=32)
        keys, _ = read_embeddings(folder)
        print(f"second call: {len(table)} images; {len(keys)} stored, {len(set(keys))} distinct")
        end = time.time()
        encode_dataset(table["path"], folder, clip, shard_size=32)
        print(f"third call: nothing to do, {time.time() - end:.1f} s")

        # %%
        # Fit on the first images, which are read by key. The other styles are for testing.
        keys, X = read_embeddings(folder, first["path"])
        classifier = CandleClassifier(text_encoder=clip, random_state=0).fit(X, first["label"])
        predict_dataset(classifier, folder, out)

    answers = dask.dataframe.read_parquet(out).compute(scheduler="synchronous")
    table = table.merge(answers, left_on="path", right_on="key", suffixes=("", "_predicted"))
    table["right"] = table["label"] == table["label_predicted"]
    rest = table[table["style"] != "twemoji"]
    print(
        f"\npredictions of {len(answers)} images in {len(list(out.glob('part-*')))} files; "
        f"{100 * rest['right'].mean():.0f} % of the {len(rest)} in styles without training "
        f"images are correct, out of {len(classifier.classes_)} classes"
    )
    draw(table, rest, stored(folder), start, killed[0], again)


# %%
# The figure
# ----------
# Left: the number of embeddings over time. Right: predictions for styles without training images.


def draw(table, rest, progress, start, killed, again):
    times, counts = progress
    figure = plt.figure(figsize=(13, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.03)

    axes = left.subplots()
    seconds = np.concatenate([[0], times - start])
    axes.step(seconds, np.concatenate([[0], counts]), where="post", color="#0072B2", lw=2)
    axes.plot(times - start, counts, "o", color="#0072B2", ms=4)
    height = len(table)
    axes.axvline(killed - start, color="#D55E00", ls="--")
    axes.text(killed - start, 0.42 * height, " a worker\n is killed", color="#D55E00")
    axes.axvline(again - start, color="#555555", ls=":")
    axes.text(again - start, 0.12 * height, " called again,\n with all images", color="#555555")
    axes.axhline(height, color="#009E73", lw=1)
    axes.text(seconds[-1], 1.01 * height, f"{height} images", color="#009E73", ha="right")
    axes.set(
        xlabel="seconds",
        ylabel="embeddings in the folder",
        ylim=(0, 1.1 * height),
        xlim=(0, None),
        title="Each point is a Parquet file",
    )
    axes.spines[["top", "right"]].set_visible(False)

    shown = rest.sample(18, random_state=1)
    for (_, row), axes in zip(shown.iterrows(), right.subplots(3, 6).flat, strict=True):
        with Image.open(row["path"]) as image:
            axes.imshow(image)
        axes.axis("off")
        title = f"{row['label_predicted']}\n{100 * row['probability']:.0f} %"
        if not row["right"]:
            title = f"{row['label_predicted']}\nnot {row['label']}"
        axes.set_title(title, fontsize=9, color="#0072B2" if row["right"] else "#B34700")
    right.suptitle("Predictions for styles without training images", fontsize=11)

    figure.savefig("scale_out.png", dpi=110)
    print(f"\nfigure: {Path('scale_out.png').resolve()}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
