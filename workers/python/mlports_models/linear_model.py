"""The model that the linear worker serves: its weights, how they are learned, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import descent, settings
from .descent import Examples, Step
from .numeric import Array, numbers, sendable

_CONFIG = {"alpha": (int, float), "weight": (int, float), "steps": (int,)}


class LinearModel:
    """Weights, and what can be done with them. `config` is the service's (see `linear`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        self._alpha: float | None = config.get("alpha")
        self._first = float(config.get("weight", 1.0))
        self._most: int = config.get("steps", 100_000)
        if self._alpha is not None and not 0 < self._alpha < float("inf"):
            raise Failure("invalid_argument", f"config: alpha is above 0, not {self._alpha}")
        if self._most < 1:
            raise Failure("invalid_argument", f"config: steps is 1 or more, not {self._most}")
        self._weights: Array | None = None  # as they are shown: see `linear.weight`

    def run(self, inputs: Any, weights: Any) -> Any:
        """See `linear.run`."""
        if weights is None:
            weights = self._weights
        if weights is None:
            raise Failure("failed_precondition", "there are no weights yet: train(input, goal), or give run a weight")
        return sendable(descent.run(inputs, weights))

    def train(self, inputs: Any, goals: Any, check: Callable[[], None]) -> dict[str, Any]:
        """See `linear.train`. `check` is called before each step, and ends it by raising."""
        given = descent.examples(inputs, goals)
        alpha = self._alpha_for(given)
        for step in self._steps(given, alpha):
            check()
            last = step
        self._weights = _shown(last.weights, given)
        return {
            "weight": sendable(self._weights),
            "error": last.error,
            "steps": last.number,
            "alpha": alpha,
            "settled": last.number < self._most,
        }

    def trace(self, inputs: Any, goals: Any) -> Iterator[dict[str, Any]]:
        """See `linear.trace`."""
        given = descent.examples(inputs, goals)
        for step in self._steps(given, self._alpha_for(given)):
            last = step
            yield {
                "step": step.number,
                "weight": sendable(_shown(step.weights, given)),
                "prediction": sendable(_as_goals(step.predictions, given)),
                "delta": sendable(_as_goals(step.delta, given)),
                "error": step.error,
            }
        self._weights = _shown(last.weights, given)

    def weight(self) -> Any:
        """See `linear.weight`."""
        return None if self._weights is None else sendable(self._weights)

    def reset(self) -> None:
        """See `linear.reset`."""
        self._weights = None

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`."""
        return {"weight": self.weight()}

    def take(self, state: Any) -> None:
        """Goes on from a snapshot."""
        kept = state["weight"]
        self._weights = None if kept is None else numbers(kept, "snapshot")

    def _alpha_for(self, given: Examples) -> float:
        return descent.choose_alpha(given.x) if self._alpha is None else float(self._alpha)

    def _steps(self, given: Examples, alpha: float) -> Iterator[Step]:
        first = np.full((given.x.shape[1], given.y.shape[1]), self._first)
        if self._weights is not None and self._weights.shape == _shown(first, given).shape:
            first = self._weights.reshape(first.shape)
        return descent.until_settled(descent.descend(first, given, alpha), self._most)


def _shown(weights: Array, given: Examples) -> Array:
    """Weights (inputs × outputs) without the axes that the examples did not have."""
    inputs, outputs = weights.shape
    return weights.reshape((() if given.scalar_x else (inputs,)) + (() if given.scalar_y else (outputs,)))


def _as_goals(values: Array, given: Examples) -> Array:
    rows, outputs = values.shape
    return values.reshape((() if given.one else (rows,)) + (() if given.scalar_y else (outputs,)))
