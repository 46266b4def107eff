"""The examples whose workers learn, or reckon, with each thing that comes: real data, real processes."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, ClassVar

from benchmarks.contenders.contender import Unavailable
from benchmarks.recovery.subject import Figures

SYMBOLS = 20
AT_ONCE = 500
"""Bars in a call."""

PACED = 500
"""Readings that are also watched at the pace of sensors."""


def _example(name: str, module: str) -> Any:
    """A module of an example. Raises Unavailable without what it imports."""
    try:
        return importlib.import_module(f"examples.{name}.{module}")
    except ImportError as error:
        raise Unavailable(f"the example {name} cannot be imported: {error}") from error


def _data(load: Any) -> Any:
    """An example's real data. Raises Unavailable without the package that has it."""
    try:
        return load()
    except SystemExit as missing:
        raise Unavailable(str(missing)) from missing


class Recommending:
    """`run(events, timed)`: so many ratings are learned, then so many further ones, one call at a time.

    Gives "ms", of each of those the milliseconds of the update with its recommendations, and "idle", those of a call
    that does nothing, in turns with them.
    """

    name: ClassVar[str] = "system-recommending"
    title: ClassVar[str] = "recommendation_system"

    def open(self) -> None:
        self._example = _example("recommendation_system", "__main__")
        self._events = _data(_example("recommendation_system", "ratings").ratings)

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        events, timed = request
        found = asyncio.run(self._example.replay(self._events[:events], timed=timed))
        return {name: [1000 * s for s in seconds] for name, seconds in (("ms", found.delays), ("idle", found.idle))}


class Monitoring:
    """`run(readings)`: so many are watched as fast as it goes, and some at the pace of sensors.

    Gives "ms" and "paced", of each alert the milliseconds since its reading; "auc", the ROC AUC, and "ahead", the most
    readings that were on their way.
    """

    name: ClassVar[str] = "system-monitoring"
    title: ClassVar[str] = "equipment_monitor"

    def open(self) -> None:
        self._example = _example("equipment_monitor", "__main__")
        self._judging = _example("equipment_monitor", "judging")
        self._readings, self._odd = _data(_example("equipment_monitor", "shuttle").shuttle)

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        (count,) = request
        paced = self._readings[count : count + PACED]
        fast, slow, _ = asyncio.run(self._example.watch(self._readings[:count], paced))
        judged = slice(self._example.BEFORE, count)
        return {
            "ms": (fast.delays[fast.alerts] * 1000).tolist(),
            "paced": (slow.delays[slow.alerts] * 1000).tolist(),
            "auc": [self._judging.roc_auc(fast.scores[judged], self._odd[judged])],
            "ahead": [float(max(fast.most_in_flight, slow.most_in_flight))],
        }


class Indicators:
    """`run(symbols)`: the bars of so many, through two workers. Gives "bars", those of a second."""

    name: ClassVar[str] = "system-indicators"
    title: ClassVar[str] = "market_analyzer"

    def open(self) -> None:
        self._example = _example("market_analyzer", "__main__")
        self._stocks = _data(_example("market_analyzer", "bars").stocks)

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        (symbols,) = request
        named = self._example.named(self._stocks, symbols)
        feeds, _, seconds = asyncio.run(self._example.replay(named, kills=0, at_once=AT_ONCE, every="1s"))
        return {"bars": [sum(len(feed.bars) for feed in feeds) / seconds]}
