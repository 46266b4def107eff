"""1,250 web sites, and which of them were phishing, from the package river, which is not imported."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


def phishing() -> tuple[Any, Any]:
    """The sites (1,250 × 9) in the file's order, and for each 1 if it was phishing (548 were), else 0.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    spec = find_spec("river")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the sites are in the package river: pip install 'mlports[examples]'")
    with gzip.open(Path(spec.submodule_search_locations[0], "datasets", "phishing.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1].astype(int)
