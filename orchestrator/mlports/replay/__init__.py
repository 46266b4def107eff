"""Recordings played back: to any worker, beside what was answered then, and reduced to what is needed to kill it."""

from __future__ import annotations

from mlports.replay.comparing import Deviation, deviations, is_same_end, kind_of
from mlports.replay.feeding import Outcome, Pace, feed
from mlports.replay.files import read_recording, write_recording
from mlports.replay.fitting import misfit
from mlports.replay.script import Script
from mlports.replay.showing import as_line, as_map, describe_message
from mlports.replay.shrinking import Shrunk, shrink_recording

__all__ = [
    "Deviation",
    "Outcome",
    "Pace",
    "Script",
    "Shrunk",
    "as_line",
    "as_map",
    "describe_message",
    "deviations",
    "feed",
    "is_same_end",
    "kind_of",
    "misfit",
    "read_recording",
    "shrink_recording",
    "write_recording",
]
