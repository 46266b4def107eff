"""What the worker `fraud` keeps: logistic regression that learns from one case after the other.

Features are standardised by what was seen of them so far (B. P. Welford, 1962). The steps are AdaGrad's (J. Duchi,
E. Hazan, Y. Singer, 2011): each weight goes rate · g / √(the sum of all g² so far) against its gradient g.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import settings
from .numeric import Array, numbers

_CONFIG = {"rate": (int, float), "l2": (int, float)}
_FURTHEST = 8.0  # standard deviations; what is further off counts as this far


class OnlineLogistic:
    """Weights that each case moves. `config` is the service's (see `fraud`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        self._rate, self._l2 = float(config.get("rate", 0.5)), float(config.get("l2", 0.001))
        if not 0 < self._rate < math.inf or not 0 <= self._l2 < math.inf:
            raise Failure("invalid_argument", "config: rate is above 0, and l2 is 0 or more")
        self._seen = 0
        self._begin(0)

    def predict(self, cases: Any) -> Any:
        """See `fraud.predict`."""
        table, single = self._table(cases)
        found = np.array([_sigmoid(float(self._inputs(case) @ self._weights)) for case in table])
        return float(found[0]) if single else found

    def learn(self, cases: Any, frauds: Any) -> Any:
        """See `fraud.learn`. Cases that cannot be learned, or not all of them, change nothing."""
        table, single = self._table(cases)
        labels = np.atleast_1d(numbers(frauds, "frauds"))
        if labels.shape != (len(table),):
            raise Failure("invalid_argument", f"there are {len(table)} cases, and {labels.size} answers to them")
        if not np.isin(labels, (0, 1)).all():
            raise Failure("invalid_argument", "whether it is a fraud is 1 or 0")
        found = np.array([self._step(case, label) for case, label in zip(table, labels.tolist(), strict=True)])
        return float(found[0]) if single else found

    def info(self) -> dict[str, Any]:
        """See `fraud.info`."""
        return {"cases": self._seen, "weights": self._weights if self._seen else None}

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`."""
        arrays = (self._mean, self._spread, self._weights, self._moved)
        return {"seen": self._seen, "arrays": [array.tolist() for array in arrays]}

    def take(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._seen = state["seen"]
        self._mean, self._spread, self._weights, self._moved = (np.array(array) for array in state["arrays"])

    def _begin(self, features: int) -> None:
        self._mean, self._spread = np.zeros(features), np.zeros(features)  # and Σ (x − mean)²
        self._weights, self._moved = np.zeros(features + 1), np.zeros(features + 1)  # and Σ g²

    def _step(self, case: Array, label: float) -> float:
        """Learns one case, and gives what was expected of it before."""
        inputs = self._inputs(case)
        expected = _sigmoid(float(inputs @ self._weights))
        gradient = (expected - label) * inputs
        gradient[:-1] += self._l2 * self._weights[:-1]  # not the constant
        self._moved += gradient**2
        self._weights -= self._rate * gradient / np.sqrt(np.where(self._moved > 0, self._moved, 1.0))
        self._seen += 1
        away = case - self._mean
        self._mean += away / self._seen
        self._spread += away * (case - self._mean)
        return expected

    def _inputs(self, case: Array) -> Array:
        """The case in standard deviations from the mean of those before it, and a 1 for the constant."""
        if not self._seen:
            return np.append(np.zeros(len(case)), 1.0)
        deviation = np.sqrt(self._spread / self._seen)
        away = (case - self._mean) / np.where(deviation > 0, deviation, 1.0)
        return np.append(np.clip(away, -_FURTHEST, _FURTHEST), 1.0)

    def _table(self, cases: Any) -> tuple[Array, bool]:
        table = numbers(cases, "cases")
        single = table.ndim == 1
        table = table[np.newaxis] if single else table
        if table.ndim != 2:
            raise Failure("invalid_argument", f"a case is a vector of numbers, this has the shape {list(table.shape)}")
        if self._seen and table.shape[1] != len(self._mean):
            raise Failure(
                "invalid_argument", f"this case has {table.shape[1]} features; those before had {len(self._mean)}"
            )
        if not self._seen:
            self._begin(table.shape[1])
        return table, single


def _sigmoid(value: float) -> float:
    """1 / (1 + e^−value), without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    odds = math.exp(value)
    return odds / (1.0 + odds)
