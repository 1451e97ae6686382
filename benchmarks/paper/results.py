"""Results of the paper's experiments: a JSON file that grows with each finished cell, and tables.

A cell is one data set, method and seed. The file records the settings of its cells and refuses
cells with other settings.
"""

import json
import os
from pathlib import Path

import numpy as np
from scipy.stats import hmean

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.paper.datasets import DATASETS
from benchmarks.paper.official import InputError

ORDER = list(DATASETS)
PERCENT = "accuracy and ECE in percent, seconds of one fit on embeddings"


class Results:
    """Finished cells, in memory and on disk.

    Parameters
    ----------
    path : path-like
        JSON file, which is read if it exists. The Markdown table is written beside it.
    setup : dict
        Settings that all cells share.
    columns : sequence of str
        Measured quantities in the order of the table.
    """

    def __init__(self, path, setup, columns):
        self.path, self.setup, self.columns = Path(path), setup, columns
        self.cells, self.splits = {}, {}
        if self.path.exists():
            self._load()

    def _load(self):
        remedy = "Choose another --out, or remove that file."
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            setup, cells, self.splits = record["setup"], record["cells"], record["splits"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} does not contain results of this command. {remedy}"
            ) from error
        for name in self.setup | setup:
            if setup.get(name) != self.setup.get(name):
                raise InputError(
                    f"{self.path} contains results for {name}={setup.get(name)!r}, but this run "
                    f"has {name}={self.setup.get(name)!r}. {remedy}"
                )
        self.cells = {tuple(cell["key"]): cell["measured"] for cell in cells}

    def check_split(self, name, split):
        """Check that earlier cells of a data set have the same split, and record it."""
        if self.splits.setdefault(name, split) != split:
            raise InputError(
                f"{self.path} contains results of {name} for the split {self.splits[name]!r}, but "
                f"the split is now {split!r}. Choose another --out, or remove that file."
            )

    def add(self, key, measured):
        """Add a finished cell and write both files."""
        self.cells[key] = measured
        self.write()

    def write(self):
        """Write both files, each completely or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "setup": self.setup,
            "splits": self.splits,
            "table": self.rows(),
            "cells": [
                {"key": list(key), "measured": measured} for key, measured in self.cells.items()
            ],
        }
        replace_file(self.path, json.dumps(record, indent=1))
        replace_file(self.path.with_suffix(".md"), self.markdown())

    def rows(self):
        """Means over seeds by data set and method, followed by averages over data sets."""
        measured = {}
        for (name, method, _), cell in self.cells.items():
            measured.setdefault((name, method), []).append(cell)
        rows = [
            {"data set": name, "split": self.splits[name], "method": method, "seeds": len(cells)}
            | self._means(cells)
            for (name, method), cells in measured.items()
        ]
        rows.sort(key=lambda row: ORDER.index(row["data set"]))
        source = self.setup.get("source")
        methods = dict.fromkeys(row["method"] for row in rows)
        return rows + [
            {"data set": f"average of {len(same)}", "split": "", "method": method}
            | {"seeds": min(row["seeds"] for row in same)}
            | self._means(same)
            for method in methods
            if (same := [r for r in rows if r["method"] == method and r["data set"] != source])
        ]

    def _means(self, rows):
        """Means, except for H, which by convention is the harmonic mean of two means."""
        means = {name: float(np.mean([row[name] for row in rows])) for name in self.columns}
        if "H" in means:
            means["H"] = float(hmean([means["base"], means["new"]]))
        return means

    def markdown(self):
        """The table as Markdown."""
        facts = ", ".join(f"{name} {value}" for name, value in self.setup.items())
        header = ["data set", "split", "method", "seeds", *self.columns]
        body = [
            [row["data set"], row["split"], row["method"], str(row["seeds"])]
            + [self._cell(name, row[name]) for name in self.columns]
            for row in self.rows()
        ]
        return f"{facts}; {PERCENT}\n\n{markdown_table(header, body)}\n"

    @staticmethod
    def _cell(name, value):
        return f"{value:.2f}" if name == "seconds" else f"{100 * value:.1f}"


def replace_file(path, text):
    """Replace a file in one step."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
