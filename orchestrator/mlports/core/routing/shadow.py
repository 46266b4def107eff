"""Shadow copies: a share of a service's calls also goes to another one, whose results are compared, never returned."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, NamedTuple

from mlports.core.routing.difference import difference, shown

Compared = Literal["same", "different", "failed"]

_KEPT = 20


class Sighting(NamedTuple):
    """A copy whose outcome was not that of the call itself, where, and both in short. All are texts."""

    method: str
    kind: Compared
    place: str
    primary: str
    shadow: str


class Shadow:
    """Which calls are copied, and what came of it.

    The rules
    - Each call is copied with a chance of `share`, from 0 to 1.
    - A copy that gave an error, whatever the call gave, is `failed`; one that gave another result, or any where the
      call gave an error, is `different`. `tolerance` is as `difference` has it.
    - `last` has the last 20 that were not the same, the latest last; they are kept as short texts, not as results.
    - The counts only grow. What is in none of them is still under way: `copied` is how many copies there were.

    Raises `ValueError` for a share or tolerance that is no such number.
    """

    __slots__ = ("copied", "different", "failed", "last", "same", "share", "tolerance")

    def __init__(self, share: float, tolerance: float = 0.0, kept: int = _KEPT) -> None:
        self.share = _checked(share)
        difference(None, None, tolerance)  # raises for a wrong one
        self.tolerance = tolerance
        self.copied = 0
        self.same = 0
        self.different = 0
        self.failed = 0
        self.last: deque[Sighting] = deque(maxlen=kept)

    def copies(self, random: float) -> bool:
        """Whether the next call is copied, and counts it then. `random` is uniform, from 0 up to, and without, 1."""
        if random >= self.share:
            return False
        self.copied += 1
        return True

    def settled(self, method: str, primary: Any, shadow: Any) -> Compared:
        """Both the call and its copy have settled: with a result each, or with an exception."""
        if isinstance(shadow, BaseException):
            self.failed += 1
            return self._seen(method, "failed", "", primary, shadow)
        if isinstance(primary, BaseException):
            self.different += 1
            return self._seen(method, "different", "", primary, shadow)
        found = difference(primary, shadow, self.tolerance)
        if found is None:
            self.same += 1
            return "same"
        self.different += 1
        self.last.append(Sighting(method, "different", *found))
        return "different"

    def _seen(self, method: str, kind: Compared, place: str, primary: Any, shadow: Any) -> Compared:
        self.last.append(Sighting(method, kind, place, shown(primary), shown(shadow)))
        return kind

    def as_dict(self) -> dict[str, Any]:
        """For the status: the share, the counts, and the last that were not the same."""
        return {
            "share": self.share,
            "copied": self.copied,
            "same": self.same,
            "different": self.different,
            "failed": self.failed,
            "last": [seen._asdict() for seen in self.last],
        }


def _checked(share: object) -> float:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"share must be a number from 0 to 1, as 0.1 for a tenth of the calls, not {shown(share)}")
    return share
