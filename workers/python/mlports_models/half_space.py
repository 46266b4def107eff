"""Half-space trees: how much of a window of readings lay where a new one lies, in many random divisions of the space.

S. C. Tan, K. M. Ting, T. F. Liu: Fast Anomaly Detection for Streaming Data, IJCAI 2011. Other than there, a score is
the mean over the trees of the masses' logarithms, not of the masses: a few full boxes do not hide many empty ones.
"""

from __future__ import annotations

import numpy as np
from numpy.random import default_rng

from .numeric import Array

_LIMIT = 0.1  # a node with less than this share of a window is not looked into: what is below is chance


class HalfSpaceTrees:
    """Trees over the box from `low` to `high` (vectors, with an element for each feature), and their counts.

    Each tree moves and widens the box at random and halves it `depth` times, each time in a feature at random. Its
    2^depth leaves are numbered from left to right.
    """

    def __init__(self, low: Array, high: Array, trees: int, depth: int, window: int, seed: int) -> None:
        self._depth, self._window = depth, window
        self._low, self._span = low, np.where(high > low, high - low, 1.0)
        self._tree = np.arange(trees)[:, np.newaxis]
        random = default_rng(seed)
        self._features = random.integers(0, len(low), (trees, 2**depth - 1))
        self._splits = _splits(self._features, random.uniform(size=(trees, len(low))), depth)
        self._roots = self._tree * (2**depth - 1)  # where each tree begins in them, taken as vectors
        self.counts = np.zeros((trees, 2**depth), np.int32)  # of the window that is under way
        self.masses = np.zeros((trees, 2**depth), np.int32)  # of the last whole one
        self._values = np.zeros((trees, 2**depth))

    def leaves(self, readings: Array) -> Array:
        """The leaf of each reading (n × features) in each tree: trees × n."""
        places = (readings - self._low) / self._span
        first = np.arange(len(places)) * places.shape[1]
        node = np.zeros((len(self._tree), len(places)), np.intp)
        for _ in range(self._depth):  # `take` is much faster than indexing by two arrays
            at = self._roots + node
            right = places.take(first + self._features.take(at)) >= self._splits.take(at)
            node = 2 * node + 1 + right
        leaves: Array = node - (2**self._depth - 1)
        return leaves

    def scores(self, leaves: Array) -> Array:
        """How odd the readings at these leaves are, from 0 to 1: 1 where no tree saw any in the last window.

        1 / the geometric mean over the trees of 1 + density, in units of a reading spread evenly over the tree's box.
        """
        # One tree after the other: another order for a single reading would change its last bit.
        total = np.cumsum(self._values[self._tree, leaves], axis=0)[-1]
        scores: Array = np.exp2(-total / len(self._tree))
        return scores

    def count(self, leaves: Array) -> None:
        """Counts these readings in the window that is under way."""
        np.add.at(self.counts, (self._tree, leaves), 1)

    def turn(self) -> None:
        """The window is whole: from now on it is what scores are made of."""
        self.resume(self.counts, np.zeros_like(self.counts))

    def resume(self, masses: Array, counts: Array) -> None:
        """Goes on with the masses of a whole window and the counts of one under way (trees × 2^depth)."""
        self.masses, self.counts = masses, counts
        self._values = self._leaf_values()

    def _leaf_values(self) -> Array:
        """For each leaf log2(1 + density) of the box that counts for it: the first from the root with little in it."""
        levels = [self.masses.astype(float)]
        while levels[0].shape[1] > 1:
            levels.insert(0, levels[0].reshape(len(self._tree), -1, 2).sum(axis=2))
        values, stopped = np.zeros((len(self._tree), 1)), np.zeros((len(self._tree), 1), bool)
        for level, masses in enumerate(levels):
            if level:
                values, stopped = values.repeat(2, axis=1), stopped.repeat(2, axis=1)
            values = np.where(stopped, values, np.log2(1 + masses * 2.0**level / self._window))
            stopped |= masses <= _LIMIT * self._window
        return values


def _splits(features: Array, draws: Array, depth: int) -> Array:
    """Where each node halves its feature; the numbers' own range is 0 to 1. trees × nodes, level by level.

    `draws` (trees × features, 0 to 1) is where a tree's box has its middle; it reaches as far as twice the distance to
    the end that is further away.
    """
    reach = 2 * np.maximum(draws, 1 - draws)
    low, high = (draws - reach)[:, np.newaxis], (draws + reach)[:, np.newaxis]  # trees × nodes of a level × features
    levels: list[Array] = []
    for level in range(depth):
        place = features[:, 2**level - 1 : 2 ** (level + 1) - 1, np.newaxis]
        middle = np.take_along_axis((low + high) / 2, place, axis=2)
        levels.append(middle[:, :, 0])
        low, high = low.repeat(2, axis=1), high.repeat(2, axis=1)
        np.put_along_axis(high[:, 0::2], place, middle, axis=2)
        np.put_along_axis(low[:, 1::2], place, middle, axis=2)
    return np.concatenate(levels, axis=1)
