"""A symbol's closes with its averages, and its RSI below."""

from __future__ import annotations

from typing import Any

import numpy as np

from .feeding import Feed


def draw(figure: Any, feed: Feed, kills: list[int]) -> None:
    """Draws all bars; a line at each of `kills`, the bars that had come when a worker was killed."""
    prices, strength = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    number = np.arange(len(feed.bars))
    prices.plot(number, feed.bars[:, 3], color="0.75", linewidth=0.8, label="close")
    for name, colour in (("sma", "tab:blue"), ("ema", "tab:orange"), ("vwap", "tab:green")):
        prices.plot(number, feed.indicators[name], color=colour, linewidth=0.8, label=name.upper())
    strength.plot(number, feed.indicators["rsi"], color="tab:purple", linewidth=0.6)
    strength.axhspan(30, 70, color="0.92")
    for place in kills:
        for axes in (prices, strength):
            axes.axvline(place, color="tab:red", linestyle=":", linewidth=1)
    prices.plot([], [], color="tab:red", linestyle=":", label="a worker killed")
    prices.set_title(f"{feed.symbol}: daily bars, indicators from the worker")
    prices.set_ylabel("US dollars")
    prices.set_yscale("log")
    prices.legend(loc="upper left")
    strength.set_ylabel("RSI")
    strength.set_xlabel("bar")
    strength.set_ylim(0, 100)
