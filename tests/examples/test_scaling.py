"""100,000 tasks over two workers: in bounded memory, and each settled once though a worker is killed half-way."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from examples.scaling.killing import settle
from examples.scaling.ways import MIB, measure_apart

ROOT = Path(__file__).resolve().parents[2]


def test_100_000_tasks_at_once_take_less_than_200_mib() -> None:
    measured = measure_apart("calls", [100_000])
    assert measured["done"] >= 100_000
    assert measured["done"] % 100_000 == 0
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured by /proc")
    assert 4 * MIB < measured["growth"] <= 200 * MIB


async def test_a_kill_half_way_leaves_every_task_answered_once_and_right() -> None:
    found = await settle(20_000)
    assert found.settled == b"\1" * 20_000
    assert (found.errors, found.taken_in) == ([], 20_000)
    assert found.right
    assert len(found.deaths) == 1
    assert "SIGKILL" in found.deaths[0]
    under_way = [count for _, count in found.curve[1:]]
    assert under_way[0] == 20_000
    assert under_way == sorted(under_way, reverse=True)


@pytest.mark.soak
def test_the_program_tells_what_it_found(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.scaling", "--tasks", "2000", "--processes", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for way in ("a call for each", "an asyncio task for each", "orch.map", "a process for each"):
        assert way in done.stdout
    assert "2,000 settled" in done.stdout
    assert (tmp_path / "scaling.png").exists() == (find_spec("matplotlib") is not None)
