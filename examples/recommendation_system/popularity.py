"""The baseline: everybody is recommended what most have rated so far, but for what they have rated themselves."""

from __future__ import annotations

from collections import Counter, defaultdict


class Popularity:
    """Counts, and recommends by them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._had: defaultdict[str, set[str]] = defaultdict(set)

    def learn(self, user: str, film: str) -> None:
        """The user has rated the film."""
        self._counts[film] += 1
        self._had[user].add(film)

    def recommend(self, user: str, count: int) -> list[str]:
        """The most rated films that the user has not rated, best first."""
        had = self._had[user]
        best = (film for film, _ in self._counts.most_common(len(had) + count) if film not in had)
        return [film for film, _ in zip(best, range(count), strict=False)]
