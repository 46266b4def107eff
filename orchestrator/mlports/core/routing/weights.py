"""The weights of a service's replicas, checked.

The rules
- There is one weight for each replica, by its number. They count relative to each other: 3 and 1 are as 30 and 10.
- A weight is 0, or from 0.001 to 1,000,000. A replica of weight 0 gets no calls; at least one has another weight.
- Replicas that are numbered past the last weight, standby ones or those that `scale` added, weigh 1.
"""

from __future__ import annotations

from collections.abc import Sequence

_LEAST, _MOST = 0.001, 1e6  # a load divided by one, or a sum of thousands, stays exact enough to compare


class Weights:
    """Raises `ValueError` for weights that break the rules. None: all weigh 1.

    `even` says whether all of them do; `by_number` has those that were given.
    """

    __slots__ = ("by_number", "even")

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.by_number = {} if weights is None else dict(enumerate(_checked(weights)))
        self.even = all(weight == 1 for weight in self.by_number.values())

    def of(self, number: int) -> float:
        """The weight of the replica of that number."""
        return self.by_number.get(number, 1.0)


def _checked(weights: object) -> tuple[float, ...]:
    if not isinstance(weights, list | tuple):
        raise ValueError(f"weights must be a list of one number for each replica, as [3, 1], not {_shown(weights)}")
    if not weights:
        raise ValueError("weights is empty: give one number for each replica, as [3, 1], or leave weights out")
    for number, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"the weight of replica {number} must be a number, not {_shown(weight)}")
        if weight != 0 and not _LEAST <= weight <= _MOST:  # NaN too
            raise ValueError(
                f"the weight of replica {number} must be 0, or from 0.001 to 1000000, not {_shown(weight)}"
            )
    if not any(weights):
        raise ValueError("all weights are 0, so no replica would get any calls: give one of them another weight")
    return tuple(float(weight) for weight in weights)


def check_count(weights: Sequence[float], replicas: int, standby: int = 0) -> None:
    """Raises `ValueError` unless there is a weight for each replica; standby ones may have one."""
    count = len(weights)
    if not replicas <= count <= replicas + standby:
        there = f"{replicas} replica{'s' if replicas != 1 else ''}"
        if standby:
            there += f" and {standby} standby"
        raise ValueError(
            f"weights has {count} number{'s' if count != 1 else ''}, and there are {there}: "
            "give one for each replica, by its number"
        )


def _shown(value: object) -> str:
    if isinstance(value, bool | float | str | None) or (isinstance(value, int) and abs(value) < 10**20):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:56]}…"
    return "a number of more than 20 digits" if isinstance(value, int) else f"a {type(value).__name__}"
