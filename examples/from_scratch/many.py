"""Many films, with several inputs and several outputs: the same three lines of arithmetic, on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..movies import Movie

Array = np.ndarray[Any, Any]
INPUTS = ("budget", "minutes", "year")
OUTPUTS = ("us_gross", "gross")
MILLION = 1e6  # dollars
EACH = 5  # every fifth film is kept back, to be new


def arrays(movies: list[Movie]) -> tuple[Array, Array]:
    """Inputs (n × 3) and outputs (n × 2) of the films that have them all; money in millions."""
    rows = [[getattr(movie, name) for name in INPUTS + OUTPUTS] for movie in movies]
    whole = np.array([row for row in rows if None not in row], float)
    money = [place for place, name in enumerate(INPUTS + OUTPUTS) if name in ("budget", *OUTPUTS)]
    whole[:, money] /= MILLION
    return whole[:, : len(INPUTS)], whole[:, len(INPUTS) :]


def learn(orch: Any, movies: list[Movie]) -> dict[str, Any]:
    """Learns from four fifths of them; beside it, scikit-learn's LinearRegression, on the same.

    away: the largest difference between what the two say of any film, as a share of the largest that is said.
    explained: R² of each output.
    """
    from sklearn.linear_model import LinearRegression

    x, y = arrays(movies)
    new = np.arange(len(x)) % EACH == EACH - 1
    middle, spread = x[~new].mean(axis=0), x[~new].std(axis=0)
    # With one spread for all, one length of step suits all of them; the constant is an input like others.
    inputs = np.column_stack([(x - middle) / spread, np.ones(len(x))])
    orch.call("films.reset")
    told = orch.call("films.train", inputs[~new], y[~new])
    said = orch.call("films.run", inputs)
    reference = LinearRegression().fit(x[~new], y[~new]).predict(x)
    return {
        "learned from": int((~new).sum()),
        "new": int(new.sum()),
        "left out": len(movies) - len(x),
        "steps": told["steps"],
        "settled": told["settled"],
        "away": float(np.abs(said - reference).max() / np.abs(reference).max()),
        "explained": explained(said[~new], y[~new]),
        "explained of new ones": explained(said[new], y[new]),
    }


def explained(said: Array, y: Array) -> list[float]:
    """R² of each column."""
    shares: list[float] = (1 - ((y - said) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)).tolist()
    return shares
