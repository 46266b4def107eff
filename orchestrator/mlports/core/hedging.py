"""How long to wait for an answer before the same call is sent to another replica too.

As in J. Dean and L. A. Barroso, "The Tail at Scale" (2013): after the time within which, say, 95 % of the calls are
answered, so that only 5 % are sent twice. The percentile is of the answers of late, by their counts in buckets whose
bounds grow by a factor, as in DDSketch (Masson, Rim and Lee, 2019).
"""

from __future__ import annotations

import math
import re

_NEEDED = 20  # answers
_ERROR = 0.01  # relative, of a percentile
_GROWTH = (1 + _ERROR) / (1 - _ERROR)  # of one bucket's upper bound to the next one's
_LOG_GROWTH = math.log(_GROWTH)
_FINEST = 1e-6  # seconds; the first bucket's upper bound
_COARSEST = 1e9  # seconds
_BUCKETS = 2048  # a power of two; the last upper bound is past _COARSEST
_TAIL = 20  # how many answers beyond the percentile are to be remembered
_LEAST_KEPT = 256  # answers
_PERCENTILE = re.compile(r"p([0-9]{2}(?:\.[0-9])?)", re.ASCII)


class HedgeDelay:
    """`after` is "p50" to "p99.9", with at most one decimal, or seconds, more than 0. Raises `ValueError` else.

    Memory is bounded; `sample` takes 11 steps and, amortised, one more, and `delay` 11, or none when it knows it.
    """

    __slots__ = ("_answers", "_delay", "after")

    def __init__(self, after: float | str) -> None:
        self.after = after
        share = _share(after)
        self._answers = None if share is None else _Recent(share)
        self._delay = None if isinstance(after, str) else float(after)

    def sample(self, seconds: float) -> None:
        """An answer took `seconds`. One that was never given, as the slower of a pair, is best told as it stands."""
        if self._answers is not None:
            self._answers.add(seconds)
            self._delay = None

    def delay(self) -> float | None:
        """Seconds to wait before the call is sent again; None while fewer than 20 answers are known: do not."""
        if self._delay is None and self._answers is not None:
            self._delay = self._answers.quantile()
        return self._delay


class _Recent:
    """The quantile, `share` from 0 to 1, of the answers of late.

    It is within 1 % of the smallest answer that at least that share is not longer than, from 1 µs to 1e9 s. Whenever 20
    answers beyond the quantile are expected to be known, and 256 in all, what is known loses half of its weight.
    """

    __slots__ = ("_counts", "_most", "_seen", "_share", "_total")

    def __init__(self, share: float) -> None:
        self._share = share
        self._most = max(_LEAST_KEPT, _TAIL / (1 - share))
        self._counts = [0.0] * (_BUCKETS + 1)  # a Fenwick tree, from 1
        self._total = 0.0
        self._seen = 0

    def add(self, seconds: float) -> None:
        counts, place = self._counts, _bucket(seconds) + 1
        while place <= _BUCKETS:
            counts[place] += 1.0
            place += place & -place
        self._total += 1.0
        self._seen += 1
        if self._total >= self._most:
            self._counts = [count / 2 for count in counts]
            self._total /= 2

    def quantile(self) -> float | None:
        if self._seen < _NEEDED:
            return None
        # Weights that are halved again and again do not add up exactly.
        left, place, step = self._share * self._total * (1 - 1e-12), 0, _BUCKETS // 2
        while step:
            if self._counts[place + step] < left:
                place += step
                left -= self._counts[place]
            step //= 2
        return _middle(place)


def _bucket(seconds: float) -> int:
    """The bucket from 0 whose bounds `seconds` is within; the first and the last take what is beyond them."""
    if not seconds > _FINEST:
        return 0
    return math.ceil(math.log(min(seconds, _COARSEST) / _FINEST) / _LOG_GROWTH)


def _middle(bucket: int) -> float:
    """Seconds that are, relatively, equally far from both bounds of a bucket."""
    if not bucket:
        return _FINEST
    return 2 * _FINEST * math.exp(bucket * _LOG_GROWTH) / (1 + _GROWTH)


def _share(after: object) -> float | None:
    """The share of answers that a percentile is of, from 0.5 to 0.999; None for seconds. Raises `ValueError`."""
    if isinstance(after, str):
        found = _PERCENTILE.fullmatch(after)
        if found and 50 <= float(found[1]) <= 99.9:
            return float(found[1]) / 100
        shown = repr(after if len(after) <= 60 else f"{after[:56]}…")
        raise ValueError(f'after must be a percentile from "p50" to "p99.9", or seconds as a number, not {shown}')
    if isinstance(after, bool) or not isinstance(after, int | float):
        raise ValueError(f'after must be a percentile such as "p95", or seconds, not a {type(after).__name__}')
    if not 0 < after <= _COARSEST:
        raise ValueError(f"after must be more than 0 seconds and at most {_COARSEST:,.0f}, not {after}")
    return None
