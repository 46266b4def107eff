"""1,250 web sites, and which of them were phishing, from the package river, which is not imported."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from ..packaged_data import packaged


def phishing() -> tuple[Any, Any]:
    """The sites (1,250 × 9) in the file's order, and for each 1 if it was phishing (548 were), else 0.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    with gzip.open(packaged("river", "datasets", "phishing.csv.gz", what="web sites, phishing or not"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1].astype(int)
