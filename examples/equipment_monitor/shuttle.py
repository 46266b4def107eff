"""Readings of nine sensors of a space shuttle (Statlog), from the package river, which is not imported."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


def shuttle() -> tuple[Any, Any]:
    """The readings (49,097 × 9) in the file's order, and which of them are anomalies (3,511 of 49,097).

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    spec = find_spec("river")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the readings are in the package river: pip install 'mlports[examples]'")
    with gzip.open(Path(spec.submodule_search_locations[0], "datasets", "shuttle.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1] == 1
