"""Services behind one orchestrator: a slow one and a killed one are their own callers' affair alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import need

need("numpy", "sklearn", "river", "bokeh_sampledata")

from examples.service_manager.managing import AT_ARCHIVE, QUIET, TROUBLED, manage  # noqa: E402
from examples.service_manager.services import data  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


async def test_neither_a_slow_service_nor_a_killed_one_costs_another_an_answer() -> None:
    known = data()
    found = await manage(known, rounds=1, count=20)
    assert found.problems() == []
    assert (found.slow_calls, found.slow_answers) == (AT_ARCHIVE, 0)
    assert len(found.deaths) == len(found.meanwhile) == 1
    assert "SIGKILL" in found.deaths[0]
    for client in found.neighbours:
        assert len(client.answers) == client.sent >= 40
        assert len(client.took[QUIET]) == 20
        assert len(client.took[TROUBLED]) == client.sent - 20
    digits = found.accuracy("digits", known)
    assert digits is not None
    assert digits > 0.9
    unknown, method = found.refusals
    assert unknown.startswith("UnknownService: there is no service 'weather'; there are: anomaly, archive, digits")
    assert method.startswith("UnknownMethod: service anomaly has no method 'predict'; it has: ")


@pytest.mark.soak
def test_the_program_tells_what_it_found() -> None:
    command = [sys.executable, "-m", "examples.service_manager", "--rounds", "1", "--calls", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
