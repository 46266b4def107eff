"""Recordings played back: to any worker, beside what was answered then, and reduced to what is needed to kill it."""

from __future__ import annotations

from mlports.core.recording import Recording
from mlports.replay.feeding import Pace
from mlports.replay.files import read_recording, write_recording
from mlports.replay.playing import Report, play
from mlports.replay.script import Script
from mlports.replay.showing import as_line, as_map, describe_message
from mlports.replay.shrinking import Shrunk, shrink_recording

__all__ = [
    "Pace",
    "Recording",
    "Report",
    "Script",
    "Shrunk",
    "as_line",
    "as_map",
    "describe_message",
    "play",
    "read_recording",
    "shrink_recording",
    "write_recording",
]
