"""A linear classifier as it is stored: a JSON file, read and used with Python alone."""

from __future__ import annotations

import json
import math
from typing import Any


class Softmax:
    """`path` holds {weights: one row for each class, intercepts: one for each class}."""

    def __init__(self, path: str) -> None:
        with open(path) as file:
            stored = json.load(file)
        self._weights: list[list[float]] = stored["weights"]
        self._intercepts: list[float] = stored["intercepts"]

    def predict(self, row: list[float]) -> dict[str, Any]:
        """The most likely class of a row of numbers, and how likely each is. Raises `ValueError` for another length."""
        due = len(self._weights[0])
        if len(row) != due:
            raise ValueError(f"a row has {due} numbers, and this one {len(row)}")
        scores = [
            intercept + sum(weight * value for weight, value in zip(weights, row, strict=True))
            for weights, intercept in zip(self._weights, self._intercepts, strict=True)
        ]
        shares = [math.exp(score - max(scores)) for score in scores]
        likely = [share / sum(shares) for share in shares]
        return {"label": likely.index(max(likely)), "likely": likely}
