"""Daily bars of five shares, 2000 to 2013, from the package bokeh_sampledata, which is not imported."""

from __future__ import annotations

import csv
import gzip
from typing import Any

import numpy as np

from ..packaged_data import packaged

COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def stocks() -> dict[str, Any]:
    """For each ticker its bars in the order of their dates: n × 5 of open, high, low, close, volume.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    tickers: dict[str, list[list[float]]] = {}
    with gzip.open(packaged("bokeh_sampledata", "_data", "stocks.csv.gz", what="share prices"), "rt") as file:
        for row in csv.DictReader(file):
            tickers.setdefault(row["Ticker"], []).append([float(row[name]) for name in COLUMNS])
    return {ticker: np.array(bars) for ticker, bars in tickers.items()}
