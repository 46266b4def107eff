"""Whether the recorded traces would show a fault: each of many that are put into the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlports.testing.simulation import ScenarioError, world
from tests.otp.mutants import MUTANTS, Mutant, supervisor_with
from tests.otp.traces import ours, recorded

PATIENCE = 1000
"""Lines that may follow from one command, before a mutant is said to go round in circles."""


class _Endless(Exception):
    pass


def _caught_by(names: Iterator[tuple[str, str, list[str]]]) -> str | None:
    """The first recording that a machine does not repeat."""
    for name, text, trace in names:
        try:
            if ours(text)[name] != trace:
                return name
        except (ScenarioError, _Endless, ValueError, KeyError, TypeError, AttributeError):
            return name
    return None


def _recordings() -> Iterator[tuple[str, str, list[str]]]:
    for recording in ("suite", "schedules"):
        texts, traces = recorded(recording)
        yield from ((name, texts[name], traces[name]) for name in texts)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_seen(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the strength of the recordings."""
    monkeypatch.setattr(world, "Supervisor", supervisor_with(mutant))
    obstacle = world.World.obstacle

    def patient(self: world.World, id: str, supervisor: world.Node) -> object:
        if len(self.logged) > PATIENCE:
            raise _Endless
        return obstacle(self, id, supervisor)

    monkeypatch.setattr(world.World, "obstacle", patient)
    assert _caught_by(_recordings()) is not None


def test_without_a_fault_nothing_is_seen() -> None:
    """Guards the check itself."""
    assert _caught_by(_recordings()) is None
