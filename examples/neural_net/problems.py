"""The article's four tests of its network, as rows and targets from a seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..packaged_data import packaged
from .shots import from_the_basket, simulate

Array = np.ndarray[Any, Any]


class Problem(NamedTuple):
    """A network, what it learns from, and what it is examined with: rows and targets of 0 and 1 each."""

    layers: list[int]
    epochs: int
    rows: Any
    targets: Array
    new_rows: Any
    new_targets: Array
    options: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it


def alternating(seed: int) -> Problem:
    """[0, 1] and [1, 0] in turn: which of the two is it?"""
    rows = np.array([[0.0, 1.0], [1.0, 0.0]] * 100)
    return Problem([2, 5, 1], 30, rows[:100], rows[:100, 0], rows[100:], rows[100:, 0])


def two_bases(seed: int) -> Problem:
    """Ten values of one of two rows of ten, with noise on each: which of the two was it?"""
    random = np.random.default_rng(seed)
    bases = random.uniform(0, 1, (2, 10))

    def draw(count: int) -> tuple[Array, Array]:
        which = random.integers(0, 2, count)
        return bases[which] + random.normal(0, 0.2, (count, 10)), which.astype(float)

    return Problem([10, 5, 1], 20, *draw(1000), *draw(1000))


LETTERS = 60


def word_count(seed: int) -> Problem:
    """Sixty letters of running text: are they of an odd number of words? Each is a factor: a symbol, at its place.

    The words are those of scikit-learn's descriptions of its data. Half of the texts are odd, so that chance is 0.5.
    """
    random = np.random.default_rng(seed)
    words = np.array(sorted({word.lower() for word in _descriptions().split() if word.isalpha()}))

    def text() -> str:
        start = int(random.integers(0, 10))
        return " ".join(random.choice(words, 40))[start : start + LETTERS]

    def draw(count: int) -> tuple[list[list[str]], Array]:
        rows, odd = [], np.arange(count) % 2
        for wanted in odd:
            drawn = text()
            while len(drawn.split()) % 2 != wanted:
                drawn = text()
            rows.append(list(drawn))
        return rows, odd.astype(float)

    return Problem([LETTERS, 20, 1], 15, *draw(1000), *draw(2000))


def _descriptions() -> str:
    """What scikit-learn says of its data, read without importing it, which takes seconds."""
    folder = packaged("sklearn", "datasets", "descr", what="running text")
    return "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.rst")))


def shots(seed: int, other_coordinates: bool) -> Problem:
    """A simulated shot at a basket, by where it comes from: does it go in?

    In inches on the floor, as a camera has it; or, in `other_coordinates`, by distance and angle.
    """
    random = np.random.default_rng(seed)

    def draw(count: int) -> tuple[Array, Array]:
        places, made = simulate(count, random)
        return (from_the_basket(places) if other_coordinates else places * 12), made

    train, test = draw(8000), draw(4000)
    return Problem([train[0].shape[1], 8, 1], 6, *train, *test, options={"rate": 0.02})
