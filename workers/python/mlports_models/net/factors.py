"""Factors: inputs that are symbols, whose values need not be known ahead.

Where a row has a text instead of a number, the text stands for a row of weights of its own, one to each neuron of the
first layer, as if it were an input that is 1 for this symbol and 0 for every other. It comes to be when it is first
learned from. A symbol that was never learned from says nothing, and neither does None.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from mlports_worker import Failure

from .layers import Array

NOTHING = -1
"""The slot of what says nothing."""


class Factors:
    """The symbols learned so far, by position in the row, and their weights (symbols × neurons).

    reach: weights begin within ± this, drawn from the seed, the position and the symbol itself, so that the order in
    which symbols turn up does not matter. most: how many there may be.
    """

    def __init__(self, neurons: int, reach: float, seed: int, most: int, dtype: str = "float64") -> None:
        self.slots: dict[tuple[int, str], int] = {}
        self._reach = reach
        self._seed = seed
        self._most = most
        self.table = np.zeros((0, neurons), dtype)  # with room for more than there are

    @property
    def weights(self) -> Array:
        """Of the symbols that there are, in the order of their slots."""
        return self.table[: len(self.slots)]

    def slots_of(self, rows: list[list[Any]], learn: bool) -> Array:
        """The slot of each entry's symbol (n × positions), made if need be to `learn` it, else `NOTHING`.

        Raises `Failure` when there would be more symbols than there may be, and then makes none.
        """
        if learn:
            self._add({(at, entry): None for row in rows for at, entry in enumerate(row) if isinstance(entry, str)})
        slots = self.slots
        return np.array(
            [
                [slots.get((at, entry), NOTHING) if isinstance(entry, str) else NOTHING for at, entry in enumerate(row)]
                for row in rows
            ]
        )

    def into_first(self, slots: Array) -> Array:
        """What the symbols in `slots` (n × positions) add to what goes into each of the first neurons (n × neurons)."""
        total = np.zeros((len(slots), self.table.shape[1]), self.table.dtype)
        for column in slots.T:
            there = column != NOTHING
            total[there] += self.table[column[there]]
        return total

    def gradient(self, slots: Array, into_first: Array) -> tuple[Array, Array]:
        """Which slots a batch has, and the loss's slope in their weights, from that in the sums that they go into."""
        rows, positions = np.nonzero(slots != NOTHING)
        used, places = np.unique(slots[rows, positions], return_inverse=True)
        slopes = np.zeros((len(used), into_first.shape[1]), into_first.dtype)
        np.add.at(slopes, places, into_first[rows])
        return used, slopes

    def put(self, symbols: list[list[Any]], weights: Array) -> None:
        """Takes the symbols of a snapshot, [position, symbol] each, and their weights, in place of those there are."""
        self.slots = {(position, symbol): slot for slot, (position, symbol) in enumerate(symbols)}
        self.table = np.array(weights, self.table.dtype).reshape(len(symbols), self.table.shape[1])

    def _add(self, symbols: dict[tuple[int, str], None]) -> None:
        new = [symbol for symbol in symbols if symbol not in self.slots]
        total = len(self.slots) + len(new)
        if total > self._most:
            position, name = new[self._most - len(self.slots)]
            raise Failure(
                "resource_exhausted",
                f"{name!r:.80} at position {position} is one symbol more than the {self._most:,} that there may be. If "
                "these are numbers, send them as numbers; if there are really so many, raise max_factors",
            )
        if total > len(self.table):
            room = np.zeros((max(total, 2 * len(self.table)) - len(self.table), self.table.shape[1]), self.table.dtype)
            self.table = np.concatenate([self.table, room])
        for position, name in new:
            slot = len(self.slots)
            self.table[slot] = self._first_weights(position, name)
            self.slots[position, name] = slot

    def _first_weights(self, position: int, name: str) -> Array:
        digest = hashlib.sha256(f"{self._seed} {position} {name}".encode("utf-8", "surrogatepass")).digest()
        random = np.random.default_rng(int.from_bytes(digest[:16], "little"))
        return random.uniform(-self._reach, self._reach, self.table.shape[1])
