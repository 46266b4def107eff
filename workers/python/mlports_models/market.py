"""The indicators of many symbols: what the worker `indicators` keeps, and how a bar changes it.

No sum is carried on from bar to bar, so no rounding error grows: the windows are summed anew, oldest bar first. The two
averages that have no window are recursions. So the results are the same to the last bit however the bars are divided
among calls.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import settings
from .numeric import Array, numbers

_CONFIG = {"sma": (int,), "ema": (int,), "rsi": (int,), "vwap": (int,)}
_DEFAULTS = {"sma": 20, "ema": 20, "rsi": 14, "vwap": 20}
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
        self._series: dict[str, Series] = {}

    def update(self, symbol: Any, number: Any, bars: Any) -> dict[str, Any]:
        """See `indicators.update`."""
        table = _bars(bars)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise Failure("invalid_argument", f"a bar's number is a whole number from 0, not {number!r:.80}")
        known = self._series.get(_symbol(symbol))
        series = known if known is not None else Series(self._windows)
        if number > series.position:
            raise Failure(
                "failed_precondition",
                f"bar {number} of {symbol} cannot be taken: {series.position} comes next here. "
                "Send the bars from there on, or load a later state first",
                {"position": series.position},
            )
        first = series.position
        answer: dict[str, Any] = {"first": first, **series.append(table[first - number :])}
        self._series[symbol] = series
        return answer

    def position(self, symbol: Any) -> int:
        """See `indicators.position`."""
        series = self._series.get(_symbol(symbol))
        return 0 if series is None else series.position

    def state_of(self, symbol: Any) -> dict[str, Any]:
        """See `indicators.state`. Raises `Failure` for a symbol of which there was no bar."""
        series = self._series.get(_symbol(symbol))
        if series is None:
            raise Failure("not_found", f"no bar of {symbol} has come here")
        return series.state()

    def load(self, symbol: Any, state: Any) -> int:
        """See `indicators.load`."""
        loaded = Series.of(state, self._windows, _symbol(symbol))
        if loaded.position > self.position(symbol):
            self._series[symbol] = loaded
        return self.position(symbol)

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`: the state of each symbol."""
        return {symbol: series.state() for symbol, series in self._series.items()}

    def take(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._series = {symbol: Series.of(kept, self._windows, symbol) for symbol, kept in state.items()}


class Series:
    """One symbol: how many bars came, the last of them, and the averages that reach back to the first.

    `windows` says over how many bars each indicator is: sma, ema, rsi, vwap.
    """

    def __init__(self, windows: dict[str, int]) -> None:
        self.position = 0
        self._windows = windows
        # As many bars as the longest window needs from before; one at least, for the next change.
        self._kept = max(windows["sma"] - 1, windows["vwap"] - 1, 1)
        self._last = np.empty((0, _COLUMNS))
        self._ema = 0.0
        self._up = self._down = 0.0  # Wilder's averages; until there are enough changes for one, their sums

    def append(self, bars: Array) -> dict[str, Array]:
        """The indicators after each of these bars (n × 5): an array of n each."""
        before = len(self._last)
        known = np.concatenate((self._last, bars))
        close = known[:, _CLOSE]
        results = {
            "sma": _window_sums(close, self._windows["sma"], len(bars)) / self._windows["sma"],
            "ema": self._next_ema(close[before:]),
            "rsi": self._next_rsi(np.diff(close[max(before - 1, 0) :])),
            "vwap": self._vwap(known, len(bars)),
        }
        self.position += len(bars)
        self._last = known[max(len(known) - self._kept, 0) :].copy()
        return results

    def state(self) -> dict[str, Any]:
        """See `indicators.state`."""
        return {
            "position": self.position,
            "windows": dict(self._windows),
            "bars": self._last.tolist(),
            "ema": self._ema,
            "up": self._up,
            "down": self._down,
        }

    @classmethod
    def of(cls, state: Any, windows: dict[str, int], symbol: str) -> Series:
        """The series of a state. Raises `Failure` for what is none, and for one of other windows."""
        try:
            series = cls(windows)
            series.position = int(state["position"])
            series._last = np.asarray(state["bars"], float).reshape(-1, _COLUMNS)
            series._ema, series._up, series._down = (float(state[name]) for name in ("ema", "up", "down"))
            kept = dict(state["windows"])
            if kept == windows and not 0 < len(series._last) == min(series.position, series._kept):
                raise ValueError(f"{len(series._last)} bars at position {series.position}")
        except (TypeError, ValueError, KeyError) as error:
            raise Failure("invalid_argument", f"this is no state of {symbol}: {error!r}") from error
        if kept != windows:
            raise Failure(
                "failed_precondition",
                f"the state of {symbol} was kept for the windows {kept}, and these are {windows}: "
                "configure those, or begin again at bar 0",
            )
        return series

    def _next_ema(self, close: Array) -> Array:
        """y ← y + (x − y) · 2 / (window + 1), from the first close on: pandas' ewm(span=window, adjust=False)."""
        alpha = 2.0 / (self._windows["ema"] + 1)
        first = float(close[0]) if len(close) and not self.position else self._ema
        values = list(accumulate(close.tolist(), _towards(alpha), initial=first))[1:]
        if values:
            self._ema = values[-1]
        return _unless_early(values, self._windows["ema"] - 1 - self.position)

    def _next_rsi(self, changes: Array) -> Array:
        """100 · up / (up + down), of the averages of gains and losses (J. W. Wilder, New Concepts, 1978).

        The first averages are the means of the first `rsi` changes; each change then moves them by 1 / rsi of the
        distance. 50 where nothing has moved.
        """
        window, seen = self._windows["rsi"], max(self.position - 1, 0)
        gains, losses = np.maximum(changes, 0.0), np.maximum(-changes, 0.0)
        ups, self._up = _wilder(gains.tolist(), self._up, seen, window)
        downs, self._down = _wilder(losses.tolist(), self._down, seen, window)
        total = ups + downs
        rsi = np.divide(100.0 * ups, total, out=np.full(len(ups), 50.0), where=total > 0)
        rsi[: max(window - 1 - seen, 0)] = np.nan
        return rsi if self.position else np.concatenate(([np.nan], rsi))  # the first bar of all has no change

    def _vwap(self, bars: Array, new: int) -> Array:
        """Σ typical price · volume / Σ volume over the window; the typical price is (high + low + close) / 3."""
        typical = (bars[:, _HIGH] + bars[:, _LOW] + bars[:, _CLOSE]) / 3.0
        window, volume = self._windows["vwap"], bars[:, _VOLUME]
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


def _unless_early(values: list[float], early: int) -> Array:
    array = np.array(values)
    array[: max(early, 0)] = np.nan
    return array


def _bars(value: Any) -> Array:
    table = numbers(value, "bars")
    if table.ndim == 1:
        table = table[np.newaxis]
    if table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise Failure(
            "invalid_argument", f"a bar is [open, high, low, close, volume]; these have the shape {list(table.shape)}"
        )
    if (table[:, _VOLUME] < 0).any():
        raise Failure("invalid_argument", "a bar's volume is 0 or more; one of these is below")
    return table


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Failure("invalid_argument", f"a symbol is a text such as 'AAPL', not {value!r:.80}")
    return value
