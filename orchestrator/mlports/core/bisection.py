"""Which of the calls that a worker died with is to blame.

The rules
- A request of n > 1 calls, a batch or calls packed into one frame, that its worker dies with is cut in halves. All of
  them must be idempotent, and those that were answered before are not in it.
- Suspects are isolated: each half is sent alone, to a replica that has nothing else in flight, and that gets nothing
  else until the half is answered. One that kills again is cut again.
- A single call that kills its worker while it is alone is guilty, if it was in a death before. One bad call among n is
  found by at most ⌈log₂ n⌉ + 1 deaths, k bad ones by at most k times as many.
- A death by a signal that people send (SIGKILL, SIGTERM, SIGINT, SIGHUP) proves little: such a one makes a call guilty
  only when it is the third on the way from the first request to that call. So one of two calls that end their worker in
  this way costs a death more than the bound, and one of three or more costs none.
- A death that a group was not alone in cuts it, and proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KILLS = 3  # deaths from outside that a call must have been in


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is held against the calls of a group; it travels with them.

    `deaths` are those that the group, or the groups that it was cut from, have been in, `size` the calls in the last of
    them. `kills` are those of them that came from outside.
    """

    deaths: int
    size: int
    kills: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Cut it: the first `sizes[0]` calls and the other `sizes[1]` are sent alone, each with `suspicion`."""

    sizes: tuple[int, int]
    suspicion: Suspicion


@dataclass(frozen=True, slots=True)
class Again:
    """The call is sent once more, alone, with `suspicion`."""

    suspicion: Suspicion


@dataclass(frozen=True, slots=True)
class Guilty:
    """The call kills its worker: poison."""


@dataclass(frozen=True, slots=True)
class NotSuspect:
    """A lone call that died for the first time: the ordinary rules for retries decide."""


Judgement = Split | Again | Guilty | NotSuspect

GUILTY: Final = Guilty()
NOT_SUSPECT: Final = NotSuspect()


def after_death(count: int, suspicion: Suspicion | None, alone: bool, from_outside: bool) -> Judgement:
    """What becomes of a request of `count` unanswered calls whose worker died.

    `suspicion` is what the group had before, None at its first death; `alone` whether the request was the only one in
    that worker's hands; `from_outside` whether a signal that people send ended the worker. Raises `ValueError` for a
    count below 1.
    """
    if count < 1:
        raise ValueError(f"a request has at least 1 call, not {count}")
    deaths = 1 if suspicion is None else suspicion.deaths + 1
    kills = from_outside if suspicion is None else suspicion.kills + from_outside
    if count > 1:
        return Split((count - count // 2, count // 2), Suspicion(deaths, count, kills))
    if suspicion is None:
        return NOT_SUSPECT
    if alone and (not from_outside or kills >= _KILLS):
        return GUILTY
    return Again(Suspicion(deaths, 1, kills))
