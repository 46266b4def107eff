"""The indicators of many symbols: what the worker `indicators` keeps, and how a bar changes it.

No sum is carried on from bar to bar, so no rounding error grows: the windows are summed anew, oldest bar first. The two
averages that have no window are recursions. So the results are the same to the last bit however the bars are divided
among calls.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from mlports_worker import Failure

from . import settings
from .numeric import Array, numbers

_CONFIG = {"sma": (int,), "ema": (int,), "rsi": (int,), "vwap": (int,)}
_DEFAULTS = {"sma": 20, "ema": 20, "rsi": 14, "vwap": 20}
_LARGEST = 1e100
_LONGEST = 10_000
_COLUMNS = 5
_HIGH, _LOW, _CLOSE, _VOLUME = 1, 2, 3, 4


class Market:
    """The series of all symbols. `config` is the service's (see `indicators`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        self._windows = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
        for name, window in self._windows.items():
            if not 1 <= window <= _LONGEST:
                raise Failure("invalid_argument", f"config: {name} is from 1 to {_LONGEST:,} bars, not {window}")
        self._series: dict[str, tuple[Point, Point]] = {}  # before the last call, and now

    def update(self, symbol: Any, number: Any, bars: Any) -> dict[str, Any]:
        """See `indicators.update`."""
        table = _bars(bars)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise Failure("invalid_argument", f"a bar's number is a whole number from 0, not {number!r:.80}")
        before, now = self._series.get(_symbol(symbol), (_NOTHING, _NOTHING))
        if number > now.position:
            raise Failure(
                "failed_precondition",
                f"bar {number} of {symbol} cannot be taken: {now.position} comes next here. "
                "Send the bars from there on",
                {"position": now.position},
            )
        # The last answer may have been lost with the worker that sent it, when the snapshot was already made.
        start = before if number <= before.position < min(now.position, number + len(table)) else now
        results, end = _advance(start, table[start.position - number :], self._windows)
        if end.position > now.position:
            self._series[symbol] = (start, end)
        return {"first": start.position, **results}

    def position(self, symbol: Any) -> int:
        """See `indicators.position`."""
        return self._series.get(_symbol(symbol), (_NOTHING, _NOTHING))[1].position

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`: of each symbol where it stands, and stood before the last call."""
        return {"windows": self._windows, "series": self._series}

    def take(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot. Raises `Failure` for one of other windows."""
        if state["windows"] != self._windows:
            raise Failure(
                "failed_precondition",
                f"the snapshot was made for the windows {state['windows']}, and the config says {self._windows}: "
                "configure those, or remove the snapshot to begin at bar 0",
            )
        self._series = {symbol: (Point(*before), Point(*now)) for symbol, (before, now) in state["series"].items()}


class Point(NamedTuple):
    """Where a symbol's series stands: all that the indicators of the bars to come depend on."""

    position: int
    """How many bars came."""
    last: Array
    """The last of them (n × 5): as many as the longest window needs from before, and one at least."""
    ema: float
    up: float
    """Wilder's average of the gains; until there are enough changes for one, their sum."""
    down: float


_NOTHING = Point(0, np.empty((0, _COLUMNS)), 0.0, 0.0, 0.0)


def _advance(point: Point, bars: Array, windows: dict[str, int]) -> tuple[dict[str, Array], Point]:
    """The indicators after each of these bars (n × 5), an array of n each, and where the series stands then."""
    known = np.concatenate((point.last, bars))
    before, new = len(point.last), len(bars)
    close = known[:, _CLOSE]
    averages, ema = _next_ema(point, close[before:], windows["ema"])
    strengths, up, down = _next_rsi(point, np.diff(close[max(before - 1, 0) :]), windows["rsi"])
    results = {
        "sma": _window_sums(close, windows["sma"], new) / windows["sma"],
        "ema": averages,
        "rsi": strengths,
        "vwap": _vwap(known, new, windows["vwap"]),
    }
    kept = max(windows["sma"] - 1, windows["vwap"] - 1, 1)
    last = known[max(len(known) - kept, 0) :].copy()
    return results, Point(point.position + new, last, ema, up, down)


def _next_ema(point: Point, close: Array, window: int) -> tuple[Array, float]:
    """y ← y + (x − y) · 2 / (window + 1), from the first close on: pandas' ewm(span=window, adjust=False)."""
    first = point.ema if point.position or not len(close) else float(close[0])
    values = list(accumulate(close.tolist(), _towards(2.0 / (window + 1)), initial=first))
    averages = np.array(values[1:])
    averages[: max(window - 1 - point.position, 0)] = np.nan
    return averages, values[-1]


def _next_rsi(point: Point, changes: Array, window: int) -> tuple[Array, float, float]:
    """100 · up / (up + down), of the averages of gains and losses (J. W. Wilder, New Concepts, 1978).

    The first averages are the means of the first `window` changes; each change then moves them by 1 / window of the
    distance. 50 where nothing has moved.
    """
    seen = max(point.position - 1, 0)
    ups, up = _wilder(np.maximum(changes, 0.0).tolist(), point.up, seen, window)
    downs, down = _wilder(np.maximum(-changes, 0.0).tolist(), point.down, seen, window)
    total = ups + downs
    rsi = np.divide(100.0 * ups, total, out=np.full(len(ups), 50.0), where=total > 0)
    rsi[: max(window - 1 - seen, 0)] = np.nan
    if not point.position:
        rsi = np.concatenate(([np.nan], rsi))  # the first bar of all has no change
    return rsi, up, down


def _vwap(bars: Array, new: int, window: int) -> Array:
    """Σ typical price · volume / Σ volume over the window; the typical price is (high + low + close) / 3."""
    typical, volume = (bars[:, _HIGH] + bars[:, _LOW] + bars[:, _CLOSE]) / 3.0, bars[:, _VOLUME]
    traded, of = _window_sums(typical * volume, window, new), _window_sums(volume, window, new)
    average: Array = np.divide(traded, of, out=np.full(new, np.nan), where=of > 0)
    return average


def _window_sums(values: Array, window: int, new: int) -> Array:
    """The sum of `window` values up to each of the last `new`, from the oldest on; NaN where there are too few."""
    values = values[max(len(values) - new - window + 1, 0) :]
    full = len(values) - window + 1
    sums = np.full(new, np.nan)
    if full >= window:
        total = values[:full].copy()
        for shift in range(1, window):
            total += values[shift : shift + full]
        sums[-full:] = total
    elif full > 0:  # the same additions in the same order, with fewer steps
        sums[-full:] = [np.cumsum(values[place : place + window])[-1] for place in range(full)]
    return sums


def _wilder(values: list[float], average: float, seen: int, window: int) -> tuple[Array, float]:
    """The averages after each value, and the last; up to the window's value that completes it, sums of them."""
    early = min(max(window - seen, 0), len(values))
    averages = list(accumulate(values[:early], initial=average))
    if early and seen + early == window:
        averages[-1] /= window
    averages += list(accumulate(values[early:], _towards(1.0 / window), initial=averages[-1]))[1:]
    return np.array(averages[1:]), averages[-1]


def _towards(alpha: float) -> Callable[[float, float], float]:
    return lambda average, value: average + alpha * (value - average)


def _bars(value: Any) -> Array:
    table = numbers(value, "bars")
    if table.ndim == 1:
        table = table[np.newaxis]
    if table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise Failure(
            "invalid_argument", f"a bar is [open, high, low, close, volume]; these have the shape {list(table.shape)}"
        )
    if (np.abs(table) > _LARGEST).any():
        raise Failure("invalid_argument", f"a bar's numbers are at most {_LARGEST:g}, so that their sums stay numbers")
    if (table[:, _VOLUME] < 0).any():
        raise Failure("invalid_argument", "a bar's volume is 0 or more; one of these is below")
    return table


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Failure("invalid_argument", f"a symbol is a text such as 'AAPL', not {value!r:.80}")
    return value
