"""Delta debugging (Zeller's ddmin): from many units that fail together to few of which none can be left out.

It asks questions, and whoever runs it answers them:

    questions = shrink(range(10_000))
    candidates = next(questions)                  lazily, the likeliest first
    candidates = questions.send(2)                the third of them failed: it goes on with that one
    candidates = questions.send(None)             none of them did
    …                                             StopIteration.value is the result
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

Unit = TypeVar("Unit")
Units = tuple[Unit, ...]
Questions = Generator[Iterator[Units[Unit]], int | None, Units[Unit]]


def shrink(units: Sequence[Unit]) -> Questions[Unit]:
    """Units that are known to fail together, reduced until each of those left is needed.

    What failed came last, mostly: so the last 1, 2, 4, … are tried first.
    """
    current = tuple(units)
    found = yield iter([()])
    if found is not None:
        return ()
    found = yield (current[-(1 << power) :] for power in range(_powers_below(len(current))))
    if found is not None:
        current = current[-(1 << found) :]
    return (yield from _ddmin(current))


def _ddmin(current: Units[Unit]) -> Questions[Unit]:
    parts = 2
    while len(current) > 1:
        found = yield _candidates(current, parts)
        if found is None:
            if parts >= len(current):
                break
            parts = min(2 * parts, len(current))
            continue
        start, end = _bounds(len(current), parts, found % parts)
        if found < parts:
            current, parts = current[start:end], 2
        else:
            current, parts = current[:start] + current[end:], max(parts - 1, 2)
        parts = min(parts, len(current))
    return current


def _candidates(current: Units[Unit], parts: int) -> Iterator[Units[Unit]]:
    """Each part alone, then all but each part; of two parts, each is all but the other."""
    for part in range(parts):
        start, end = _bounds(len(current), parts, part)
        yield current[start:end]
    if parts > 2:
        for part in range(parts):
            start, end = _bounds(len(current), parts, part)
            yield current[:start] + current[end:]


def _bounds(count: int, parts: int, part: int) -> tuple[int, int]:
    return count * part // parts, count * (part + 1) // parts


def _powers_below(count: int) -> int:
    """How many powers of 2, from 1 on, are less than `count`."""
    return max(0, (count - 1).bit_length())
