"""Real bars through two workers: the indicators are pandas' own after three kills, and 100,000 bars a second pass."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.extras import need

need("numpy", "pandas", "bokeh_sampledata")

from examples.market_analyzer.__main__ import named, replay  # noqa: E402
from examples.market_analyzer.bars import stocks  # noqa: E402
from examples.market_analyzer.by_pandas import largest_difference  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("replicas", [1, 2])
async def test_three_kills_change_no_indicator(replicas: int) -> None:
    feeds, killer, _ = await replay(stocks(), kills=3, at_once=50, replicas=replicas)
    assert sum(len(feed.bars) for feed in feeds) == 12_154
    assert len(killer.at) == 3
    assert max(largest_difference(feed.indicators, feed.bars) for feed in feeds) < 1e-9


async def test_a_worker_goes_on_from_its_snapshot() -> None:
    """Guards against a state that is only ever made anew from the first bar on."""
    feeds, killer, _ = await replay(stocks(), kills=3, at_once=250, replicas=1, every=1)
    assert len(killer.at) == 3
    assert max(largest_difference(feed.indicators, feed.bars) for feed in feeds) < 1e-9
    # Each kill costs what the five feeds had under way, no more.
    assert sum(feed.sent - len(feed.bars) for feed in feeds) <= 3 * 5 * 250


@pytest.mark.soak
async def test_a_hundred_thousand_bars_a_second_of_20_symbols() -> None:
    symbols = named(stocks(), 20)
    best = 0.0
    for _ in range(5):
        feeds, _, seconds = await replay(symbols, kills=0, at_once=500, every="1s")
        best = max(best, sum(feed.sent for feed in feeds) / seconds)
        if best >= 100_000:  # it can; how often depends on what else the machine is doing
            break
    assert len(feeds) == 20
    assert best >= 100_000


@pytest.mark.soak
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib: pip install 'mlports[examples]'")
def test_the_program_draws_what_came_out(tmp_path: Path) -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    command = [
        sys.executable,
        "-m",
        "examples.market_analyzer",
        "--kills",
        "1",
        "--at-once",
        "250",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "12,154 bars" in done.stdout
    assert "workers killed: 1" in done.stdout
    assert (tmp_path / "market_analyzer.png").read_bytes().startswith(b"\x89PNG")
