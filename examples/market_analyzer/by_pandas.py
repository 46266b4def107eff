"""The same indicators by pandas, of all bars at once: what the worker's have to equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

WINDOWS = {"sma": 20, "ema": 20, "rsi": 14, "vwap": 20}
"""The worker's own defaults."""


def indicators(bars: Any, windows: dict[str, int] = WINDOWS) -> dict[str, Any]:
    """sma, ema, rsi and vwap of n × 5 bars: an array of n each, NaN where there are too few bars."""
    frame = pd.DataFrame(bars, columns=["open", "high", "low", "close", "volume"])
    ema = frame.close.ewm(span=windows["ema"], adjust=False).mean().mask(frame.index < windows["ema"] - 1)
    typical = (frame.high + frame.low + frame.close) / 3
    traded = (typical * frame.volume).rolling(windows["vwap"]).sum()
    change = frame.close.diff()
    up, down = (_wilder(part, windows["rsi"]) for part in (change.clip(lower=0), -change.clip(upper=0)))
    return {
        "sma": frame.close.rolling(windows["sma"]).mean().to_numpy(),
        "ema": ema.to_numpy(),
        "rsi": (100 - 100 / (1 + up / down)).to_numpy(),
        "vwap": (traded / frame.volume.rolling(windows["vwap"]).sum()).to_numpy(),
    }


def _wilder(changes: Any, window: int) -> Any:
    """Begins with the mean of the first `window` changes; each later one moves it by 1 / window of the distance."""
    seeded = changes.copy()
    seeded.iloc[:window] = np.nan
    if len(changes) > window:
        seeded.iloc[window] = changes.iloc[1 : window + 1].mean()
    return seeded.ewm(alpha=1 / window, adjust=False).mean()


def largest_difference(found: dict[str, Any], bars: Any) -> float:
    """The largest distance from pandas in any indicator, as a share of the right value; ∞ where one is missing."""
    worst = 0.0
    for name, right in indicators(bars).items():
        if (np.isnan(found[name]) != np.isnan(right)).any():
            return float("inf")
        there = ~np.isnan(right)
        distance = np.abs(found[name] - right)[there] / np.maximum(np.abs(right[there]), 1.0)
        worst = max(worst, float(distance.max(initial=0.0)))
    return worst
