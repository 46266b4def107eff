"""Supervision trees played in virtual time: no process is started, and an hour takes no longer than a millisecond."""

from __future__ import annotations

from mlports.testing.simulation.scenario import ScenarioError, play
from mlports.testing.simulation.schedule import Crash, Moment, play_crashes, read_crashes

__all__ = ["Crash", "Moment", "ScenarioError", "play", "play_crashes", "read_crashes"]
