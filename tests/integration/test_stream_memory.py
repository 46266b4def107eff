"""Large items through a slow reader: the orchestrator's memory does not grow with the stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.streaming import run_apart

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the most memory")


@pytest.mark.parametrize(
    ("way", "mib", "chunk_mib", "pause_ms"),
    [("out", 256, 1, 1), ("out", 256, 8, 40), ("both", 128, 8, 40)],
)
def test_a_slow_reader(way: str, mib: int, chunk_mib: float, pause_ms: float) -> None:
    measured = run_apart(way, mib, chunk_mib, pause_ms, timeout=60)
    assert measured["growth_mib"] < 64


@pytest.mark.soak
def test_10_gib() -> None:
    assert run_apart("out", 10 * 1024, 1, 1)["growth_mib"] < 64
