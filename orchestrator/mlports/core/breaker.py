"""When is a service that only fails not called for a while: a circuit breaker.

The states
- closed: calls go through, and their outcomes are known to it. Once `of` outcomes are known, and the share of failures
  among the last `of` is at least `share`, it opens.
- open: no call goes through for `pause` seconds. What calls that went through before come to is not counted.
- half open: one call goes through at a time, the trial. Its success closes the breaker, which then knows no outcomes;
  its failure opens it again, for twice as long as before, up to 8 × `pause`.

    state      | event                              | next state | what else
    -----------+------------------------------------+------------+------------------------------------------------
    closed     | succeeded or failed, share reached | open       | for `pause`; outcomes forgotten
    closed     | succeeded or failed, otherwise     | closed     | the oldest of more than `of` outcomes forgotten
    open       | succeeded, failed, abandoned       | open       |
    open       | time is up                         | half open  | no trial is under way
    half open  | allows, no trial under way         | half open  | True: it is the trial
    half open  | allows, a trial under way          | half open  | False
    half open  | succeeded, a trial under way       | closed     | the next pause is `pause` again
    half open  | failed, a trial under way          | open       | for twice as long, up to 8 × `pause`
    half open  | abandoned, a trial under way       | half open  | the next `allows` is True: another trial
    half open  | any of these, no trial under way   | half open  |

Calls have no names here: in half open state, with a trial under way, the outcome of a call that went through before it
opened is taken for the trial's.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

State = Literal["closed", "open", "half_open"]

_LONGEST = 8  # in pauses


class Breaker:
    """`share` is of failures, more than 0 up to 1; `of` in calls, at least 1; `pause` in seconds, more than 0.

    `now` is in monotonic seconds. Each call that `allows` lets through is told of by one of `succeeded`, `failed` and
    `abandoned`. Raises `ValueError` for limits that mean nothing.
    """

    __slots__ = ("_failures", "_outcomes", "_pause", "_trial", "_until", "of", "pause", "share")

    def __init__(self, share: float, of: int, pause: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"the share of failures must be more than 0 and at most 1, not {share}")
        if of < 1:
            raise ValueError(f"of must be at least 1 call, not {of}")
        if not 0 < pause < math.inf:
            raise ValueError(f"pause must be more than 0 seconds, and finite, not {pause}")
        self.share = share
        self.of = of
        self.pause = pause
        self._outcomes: deque[bool] = deque()  # True for a failure, newest last
        self._failures = 0
        self._pause = pause  # how long it is, or will next be, open
        self._until: float | None = None  # None: closed
        self._trial = False

    def state(self, now: float) -> State:
        """The state at `now`."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether a call may go through now. In half open state that makes it the trial."""
        if self._until is None:
            return True
        if now < self._until or self._trial:
            return False
        self._trial = True
        return True

    def succeeded(self, now: float) -> None:
        """A call that went through was answered."""
        if self._until is None:
            self._count(False, now)
        elif self._trial:
            self._trial = False
            self._until = None
            self._pause = self.pause

    def failed(self, now: float) -> None:
        """A call that went through failed in a way that speaks against the service."""
        if self._until is None:
            self._count(True, now)
        elif self._trial:
            self._trial = False
            self._pause = min(2 * self._pause, _LONGEST * self.pause)
            self._until = now + self._pause

    def abandoned(self, now: float) -> None:
        """A call that went through will have no outcome: it was cancelled."""
        self._trial = False

    def retry_after(self, now: float) -> float:
        """Seconds until a call may go through: 0.0 if one may now; `pause` while a trial is under way."""
        if self._until is None:
            return 0.0
        if self._trial:
            return self.pause
        return max(0.0, self._until - now)

    def _count(self, failure: bool, now: float) -> None:
        outcomes = self._outcomes
        outcomes.append(failure)
        self._failures += failure
        if len(outcomes) > self.of:
            self._failures -= outcomes.popleft()
        # A quotient, for it is rounded as the literal is: 0.07 × 100 is more than 7.
        if len(outcomes) == self.of and self._failures / self.of >= self.share:
            outcomes.clear()
            self._failures = 0
            self._until = now + self._pause
