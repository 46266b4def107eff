"""Replays real bars through two workers, kills them meanwhile, compares with pandas, and draws what came out.

python -m examples.market_analyzer
python -m examples.market_analyzer --symbols 20 --kills 0 --at-once 500      # how fast it goes
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlports import Orchestrator, load_config

from ..options import whole
from ..pictures import picture
from .bars import stocks
from .by_pandas import largest_difference
from .drawing import draw
from .feeding import Feed

CONFIG = Path(__file__).with_name("mlports.toml")
ALIKE = 1e-9


class Killer:
    """Kills a worker, each in its turn, when a further part of all bars is through; `at` says where each feed was."""

    def __init__(self, orch: Orchestrator, feeds: list[Feed], kills: int) -> None:
        self.at: list[dict[str, int]] = []
        self._orch, self._feeds, self._kills = orch, feeds, kills
        self._parts = sum(len(feed.bars) for feed in feeds) / (kills + 1)

    def watch(self, feed: Feed) -> None:
        """To be called after each step of a feed."""
        through = sum(feed.position for feed in self._feeds)
        if len(self.at) == self._kills or through < self._parts * (len(self.at) + 1):
            return
        replicas = self._orch.status()["services"]["market"]["replicas"]
        pid = replicas[len(self.at) % len(replicas)]["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.at.append({feed.symbol: feed.position for feed in self._feeds})


def named(tickers: dict[str, Any], count: int) -> dict[str, Any]:
    """So many symbols; where there are more than tickers, the same bars under further names: AAPL.2, AAPL.3 …"""
    names = list(tickers)
    rounds = (divmod(number, len(names)) for number in range(count))
    return {names[place] + (f".{again + 1}" if again else ""): tickers[names[place]] for again, place in rounds}


async def replay(
    symbols: dict[str, Any], kills: int, at_once: int, replicas: int = 2, every: int | str = "100ms"
) -> tuple[list[Feed], Killer, float]:
    """Feeds all symbols at the same time; gives the feeds, the killer and how many seconds it took."""
    config = load_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        market = config.service["market"].model_copy(update={"replicas": replicas})
        market.config["snapshot"] = {"dir": folder, "every": every}  # a new folder: each replay begins with bar 0
        async with Orchestrator({"market": market}) as orch:
            feeds = [Feed(orch, symbol, bars, at_once) for symbol, bars in symbols.items()]
            killer = Killer(orch, feeds, kills)
            began = time.perf_counter()
            await asyncio.gather(*(feed.run(killer.watch) for feed in feeds))
            return feeds, killer, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.market_analyzer", description=__doc__)
    parser.add_argument("--symbols", type=whole(1), default=5, help="how many; beyond 5, the same bars, renamed")
    parser.add_argument("--kills", type=whole(0), default=3, help="how many times a worker is killed")
    parser.add_argument("--at-once", type=whole(1), default=50, help="how many bars go in one call")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    symbols = named(stocks(), options.symbols)
    feeds, killer, seconds = asyncio.run(replay(symbols, options.kills, options.at_once))
    total, sent = sum(len(feed.bars) for feed in feeds), sum(feed.sent for feed in feeds)
    worst = max(largest_difference(feed.indicators, feed.bars) for feed in feeds)
    print(f"{len(feeds)} symbols, {total:,} bars in {seconds:.2f} s: {total / seconds:,.0f} bars a second")
    print(f"workers killed: {len(killer.at)}; bars sent again for that: {sent - total:,}")
    print(f"largest difference from pandas: {worst:.1e}")
    kills = [at[feeds[0].symbol] for at in killer.at]
    picture(options.out / "market_analyzer.png", lambda figure: draw(figure, feeds[0], kills), size=(10, 6))
    if worst > ALIKE:
        sys.exit("it does not hold: the indicators are not those of pandas")


if __name__ == "__main__":
    main()
