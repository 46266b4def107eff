"""What the worker `anomaly` keeps: the trees, the first window, and the scores that say what is high."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlports_worker import Failure

from . import settings
from .half_space import HalfSpaceTrees
from .numeric import Array, numbers

_CONFIG = {"rate": (int, float), "window": (int,), "trees": (int,), "depth": (int,), "seed": (int,)}
_LIMITS = {"window": (10, 1_000_000), "trees": (1, 1000), "depth": (1, 14), "seed": (0, 2**53)}
_DEFAULTS = {"window": 500, "trees": 50, "depth": 10, "seed": 0}
_RECENT = 2000  # scores


class Detector:
    """Judges readings and learns from them. `config` is the service's (see `anomaly`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        self._settings: dict[str, int] = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
        for name, (least, most) in _LIMITS.items():
            if not least <= self._settings[name] <= most:
                raise Failure("invalid_argument", f"config: {name} is from {least} to {most:,}")
        self._rate = float(config.get("rate", 0.02))
        if not 0 < self._rate < 1:
            raise Failure("invalid_argument", f"config: rate is a share between 0 and 1, not {self._rate}")
        self._window = self._settings["window"]
        self._features: int | None = None
        self._seen = 0
        self._first = np.empty((0, 0))  # the readings of the first window, until it is whole
        self._trees: HalfSpaceTrees | None = None
        self._scores = np.empty(0)  # the last ones
        self._threshold = np.inf
        np.quantile(np.zeros(2), 0.5)  # now, since its first call imports more of numpy: longer than an alert may take

    def judge(self, readings: Any) -> dict[str, Any]:
        """See `anomaly.judge`."""
        table = numbers(readings, "readings")
        single = table.ndim == 1
        table = self._checked(table[np.newaxis] if single else table)
        number, scores, alerts = self._seen, np.empty(len(table)), np.empty(len(table), bool)
        done = 0
        while done < len(table):  # window by window
            some = slice(done, min(len(table), done + self._window - self._seen % self._window))
            scores[some] = self._take_in(table[some])
            alerts[some] = scores[some] > self._threshold
            self._remember(scores[some])
            done = some.stop
        if single:
            return {"number": number, "score": float(scores[0]), "alert": bool(alerts[0])}
        return {"number": number, "score": scores, "alert": alerts}

    def info(self) -> dict[str, Any]:
        """See `anomaly.info`."""
        threshold = self._threshold if np.isfinite(self._threshold) else None
        return {"seen": self._seen, "features": self._features, "threshold": threshold}

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`."""
        trees = self._trees
        return {
            "settings": self._settings,
            "seen": self._seen,
            "first": self._first,
            "scores": self._scores,
            "threshold": self._threshold,
            "masses": None if trees is None else trees.masses,
            "counts": None if trees is None else trees.counts,
        }

    def take(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot. Raises `Failure` for one of other settings."""
        if state["settings"] != self._settings:
            raise Failure(
                "failed_precondition",
                f"the snapshot was made with {state['settings']}, and the config says {self._settings}: "
                "configure those, or remove the snapshot to begin anew",
            )
        self._seen, self._threshold = state["seen"], state["threshold"]
        self._first, self._scores = np.array(state["first"]), np.array(state["scores"])
        self._features = self._first.shape[1] if self._seen else None
        if state["masses"] is not None:
            self._trees = self._grown()
            self._trees.resume(np.array(state["masses"]), np.array(state["counts"]))

    def _take_in(self, readings: Array) -> Array:
        """Scores readings of one window, and counts them."""
        self._seen += len(readings)
        whole = self._seen % self._window == 0
        if self._trees is None:
            self._first = np.concatenate((self._first.reshape(-1, readings.shape[1]), readings))
            if whole:
                self._trees = self._grown()
                self._trees.count(self._trees.leaves(self._first))
                self._trees.turn()
                # They are needed no more but for how far they range.
                self._first = np.stack((self._first.min(axis=0), self._first.max(axis=0)))
            return np.full(len(readings), np.nan)
        leaves = self._trees.leaves(readings)
        scores = self._trees.scores(leaves)
        self._trees.count(leaves)
        if whole:
            self._trees.turn()
        return scores

    def _remember(self, scores: Array) -> None:
        """At the end of each window the threshold is set anew."""
        self._scores = np.concatenate((self._scores, scores[~np.isnan(scores)]))[-_RECENT:]
        if self._seen % self._window == 0 and len(self._scores):
            self._threshold = float(np.quantile(self._scores, 1 - self._rate))

    def _grown(self) -> HalfSpaceTrees:
        low, high = self._first.min(axis=0), self._first.max(axis=0)
        of = self._settings
        return HalfSpaceTrees(low, high, of["trees"], of["depth"], self._window, of["seed"])

    def _checked(self, table: Array) -> Array:
        if table.ndim != 2:
            raise Failure("invalid_argument", f"a reading is a vector of numbers, this has shape {list(table.shape)}")
        if self._features is None:
            self._features = table.shape[1]
        if table.shape[1] != self._features:
            raise Failure(
                "invalid_argument", f"this reading has {table.shape[1]} features; those before had {self._features}"
            )
        return table
