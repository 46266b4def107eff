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


async def test_three_kills_change_no_indicator() -> None:
    feeds, killer, _ = await replay(stocks(), kills=3, at_once=50)
    assert sum(len(feed.bars) for feed in feeds) == 12_154
    assert len(killer.at) == 3
    assert max(largest_difference(feed.indicators, feed.bars) for feed in feeds) < 1e-9
    again = sum(feed.sent - len(feed.bars) for feed in feeds)
    # What a kill costs: the bars of one replica's symbols since their states were kept, and one call each.
    assert 0 < again <= len(killer.at) * len(feeds) * 2 * (1000 + 50)


async def test_a_hundred_thousand_bars_a_second_of_20_symbols() -> None:
    symbols = named(stocks(), 20)
    best = 0.0
    for _ in range(3):
        feeds, _, seconds = await replay(symbols, kills=0, at_once=500)
        best = max(best, sum(feed.sent for feed in feeds) / seconds)
    assert len(feeds) == 20
    assert best >= 100_000


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib: pip install 'mlports[examples]'")
def test_the_program_draws_what_came_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.market_analyzer", "--kills", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "12,154 bars" in done.stdout
    assert "workers killed: 1" in done.stdout
    assert (tmp_path / "market_analyzer.png").read_bytes().startswith(b"\x89PNG")
