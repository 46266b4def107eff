"""Daily bars of five shares, 2000 to 2013, from the package bokeh_sampledata, which is not imported."""

from __future__ import annotations

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def stocks() -> dict[str, Any]:
    """For each ticker its bars in the order of their dates: n × 5 of open, high, low, close, volume.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    spec = find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the bars are in the package bokeh_sampledata: pip install 'mlports[examples]'")
    tickers: dict[str, list[list[float]]] = {}
    with gzip.open(Path(spec.submodule_search_locations[0], "_data", "stocks.csv.gz"), "rt") as file:
        for row in csv.DictReader(file):
            tickers.setdefault(row["Ticker"], []).append([float(row[name]) for name in COLUMNS])
    return {ticker: np.array(bars) for ticker, bars in tickers.items()}
