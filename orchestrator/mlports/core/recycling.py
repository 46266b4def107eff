"""When is a worker that does well replaced all the same: after so many calls, or at such an age.

The rules
- With `max_requests` a worker answers at most about so many calls, with `max_age` it lives for at most about so many
  seconds, whichever comes first. None is no limit.
- Each life has a share, drawn at its start, and is over up to a tenth earlier by it: 0 not at all, near 1 by a tenth.
  So workers that were started together, and share their work evenly, are not replaced together.
"""

from __future__ import annotations

from typing import NamedTuple

_EARLIER = 0.1  # by how much of a limit the largest share brings it forward


class RecyclingLimits(NamedTuple):
    """`max_requests` is in calls, at least 1; `max_age` in seconds, more than 0."""

    max_requests: int | None
    max_age: float | None


def brought_forward(limits: RecyclingLimits, share: float) -> RecyclingLimits:
    """The limits of one life. `share` is from 0 up to, and without, 1. Raises `ValueError`."""
    most, oldest = limits
    if not 0 <= share < 1:
        raise ValueError(f"share must be from 0 up to, and without, 1, not {share}")
    if most is not None:
        if most < 1:
            raise ValueError(f"max_requests must be at least 1, not {most}")
        most -= int(most * _EARLIER * share)
    if oldest is not None:
        if not oldest > 0:
            raise ValueError(f"max_age must be more than 0, not {oldest}")
        oldest *= 1 - _EARLIER * share
    return RecyclingLimits(most, oldest)


def due(limits: RecyclingLimits, answered: int, age: float, share: float) -> str | None:
    """Why a worker that has answered so many calls in `age` seconds is to be replaced; None: not yet.

    Raises `ValueError` as `brought_forward` does.
    """
    most, oldest = brought_forward(limits, share)
    if most is not None and answered >= most:
        return f"it has answered {answered:,} call{'s' if answered != 1 else ''} (max_requests)"
    if oldest is not None and age >= oldest:
        return f"it has run for {age:,.1f} s (max_age)"
    return None
