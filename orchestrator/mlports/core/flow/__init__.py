"""The decisions of a flow: how much to ask for, which window an item is in, what joins with what, when to let go."""

from __future__ import annotations

from mlports.core.flow.bucket import TokenBucket
from mlports.core.flow.demand import FAR, MAX_DEMAND, QUICK, Demand, Pace, whole
from mlports.core.flow.interval_join import IntervalJoin
from mlports.core.flow.plain import NotPlain, from_plain, to_plain
from mlports.core.flow.progress import Progress, ProgressMeter
from mlports.core.flow.windows import CountWindows, SessionWindows, TimeWindows, Window, Windows

__all__ = [
    "FAR",
    "MAX_DEMAND",
    "QUICK",
    "CountWindows",
    "Demand",
    "IntervalJoin",
    "NotPlain",
    "Pace",
    "Progress",
    "ProgressMeter",
    "SessionWindows",
    "TimeWindows",
    "TokenBucket",
    "Window",
    "Windows",
    "from_plain",
    "to_plain",
    "whole",
]
