"""The pipeline: sites come in as rows of text, become numbers, are gathered to windows, and the model learns each."""

from __future__ import annotations

import csv
import gzip
from typing import Any, NamedTuple

import numpy as np

from mlports.flow import Flow, Window

from ..packaged_data import packaged

LABEL = "is_phishing"
WINDOW = 25
"""Cases that are learned together."""


class Case(NamedTuple):
    """A site, as 9 numbers from 0 to 1, and 1 if it was phishing, else 0."""

    site: list[float]
    fraud: int


def rows() -> list[dict[str, str]]:
    """1,250 real web sites in the order of the file, of the package river, which is not imported.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    with gzip.open(packaged("river", "datasets", "phishing.csv.gz", what="web sites, phishing or not"), "rt") as file:
        return list(csv.DictReader(file))


def prepared(row: dict[str, str]) -> Case:
    """Preprocessing. Raises `ValueError` for a value that is no number, or not from 0 to 1."""
    site = [float(value) for name, value in row.items() if name != LABEL]
    if not all(0 <= value <= 1 for value in site):
        raise ValueError(f"a feature is from 0 to 1, and not all of these are: {row}")
    return Case(site, int(row[LABEL]))


def lesson(window: Window) -> dict[str, Any]:
    """A window as the worker's `learn` takes it."""
    sites, frauds = zip(*window.value, strict=True)
    return {"number": int(window.start), "cases": np.array(sites), "frauds": np.array(frauds)}


def pipeline(source: list[dict[str, str]], per_second: float) -> Flow[dict[str, Any]]:
    """From rows, as many a second as that, to what the worker answers to each window."""
    return (
        Flow.from_iterable(source, max_demand=1)  # live: a case goes on before the next one is asked for
        .rate_limit(per_second)
        .map(prepared)
        .window(count=WINDOW)
        .map(lesson)
        .call("sites.learn", batch=1, in_flight=1)
    )
