"""Supervision trees played in virtual time: no process is started, and an hour takes no longer than a millisecond."""

from __future__ import annotations

from mlports.testing.simulation.scenario import ScenarioError, play

__all__ = ["ScenarioError", "play"]
