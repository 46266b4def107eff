"""How far to go downhill: a step from the slopes of the loss, array by array."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .layers import Array

_PIECE = 8192  # elements: of so many, all that a step reads and writes stays in a processor's own cache


class Optimizer(Protocol):
    """Changes arrays by their gradients. `name` tells one from another, `rows` says which of an array's rows are meant.

    `state` is what it remembers, as plain values and arrays, and can be set.
    """

    state: dict[str, Any]

    def begin(self) -> None:
        """Begins a step, in which each array is changed once."""

    def change(self, name: str, array: Array, gradient: Array, rows: Array | None = None) -> None:
        """Changes an array in place."""


class Descent:
    """Plain gradient descent: array −= rate · gradient."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.state: dict[str, Any] = {}

    def begin(self) -> None:
        """It remembers nothing."""

    def change(self, name: str, array: Array, gradient: Array, rows: Array | None = None) -> None:
        """See `Optimizer`."""
        if rows is None:
            array -= self._rate * gradient
        else:
            array[rows] -= self._rate * gradient


class Adam:
    """Adam (Kingma and Ba, 2015), with their β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.

    Of an array of which only some rows are changed, only those rows' averages move.
    """

    _FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.state: dict[str, Any] = {"steps": 0}

    def begin(self) -> None:
        """See `Optimizer`."""
        self.state["steps"] += 1
        steps = self.state["steps"]
        self._step = self._rate / (1 - self._FIRST**steps)
        self._young = float(np.sqrt(1 - self._SECOND**steps))  # averages that begin at 0 are too small at first

    def change(self, name: str, array: Array, gradient: Array, rows: Array | None = None) -> None:
        """See `Optimizer`."""
        mean, square = self._averages(name, array)
        if rows is not None:
            mean[rows] = self._FIRST * mean[rows] + (1 - self._FIRST) * gradient
            square[rows] = self._SECOND * square[rows] + (1 - self._SECOND) * gradient * gradient
            array[rows] -= self._step * mean[rows] / (np.sqrt(square[rows]) / self._young + self._EPSILON)
            return
        flat = [part.reshape(-1) for part in (array, gradient, mean, square)]
        for start in range(0, array.size, _PIECE):
            self._move(*[part[start : start + _PIECE] for part in flat])

    def _move(self, array: Array, gradient: Array, mean: Array, square: Array) -> None:
        mean *= self._FIRST
        mean += (1 - self._FIRST) * gradient
        square *= self._SECOND
        square += (1 - self._SECOND) * gradient * gradient
        array -= self._step * mean / (np.sqrt(square) / self._young + self._EPSILON)

    def _averages(self, name: str, array: Array) -> list[Array]:
        kept: list[Array] | None = self.state.get(name)
        if kept is None:
            kept = [np.zeros_like(array), np.zeros_like(array)]
        elif len(kept[0]) < len(array):  # symbols have turned up since
            more = np.zeros((len(array) - len(kept[0]), *array.shape[1:]), array.dtype)
            kept = [np.concatenate([average, more]) for average in kept]
        self.state[name] = kept
        return kept


OPTIMIZERS: dict[str, type[Adam] | type[Descent]] = {"adam": Adam, "sgd": Descent}
