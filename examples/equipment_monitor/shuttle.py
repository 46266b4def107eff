"""Readings of nine sensors of a space shuttle (Statlog), from the package river, which is not imported."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from ..packaged_data import packaged


def shuttle() -> tuple[Any, Any]:
    """The readings (49,097 × 9) in the file's order, and which of them are anomalies (3,511 of 49,097).

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    with gzip.open(packaged("river", "datasets", "shuttle.csv.gz", what="a shuttle's sensors"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1] == 1
