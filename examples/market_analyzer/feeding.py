"""Feeds one symbol's bars to the service `market`, and gets every indicator of every bar, whatever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlports import CallError, Orchestrator, WorkerCrashed

INDICATORS = ("sma", "ema", "rsi", "vwap")


class Feed:
    """One symbol: how far its bars have come, and what the indicators were.

    `at_once` bars go in one call. `sent` counts bars; it is more than there are by those that were sent again.
    """

    def __init__(self, orch: Orchestrator, symbol: str, bars: Any, at_once: int = 500) -> None:
        self.symbol = symbol
        self.bars = bars
        self.position = self.sent = 0
        self.indicators = {name: np.full(len(bars), np.nan) for name in INDICATORS}
        self._orch, self._at_once = orch, at_once

    async def run(self, watch: Callable[[Feed], None] = lambda feed: None) -> None:
        """Until the last bar. `watch` is called after each answer."""
        while self.position < len(self.bars):
            try:
                await self._step()
            except WorkerCrashed:
                continue  # the orchestrator starts another; what that one does not know comes out at the next call
            except CallError as error:
                if error.code != "failed_precondition":
                    raise
                self.position = error.data["position"]
            watch(self)

    async def _step(self) -> None:
        part = self.bars[self.position : self.position + self._at_once]
        self.sent += len(part)
        answer = await self._orch.call("market.update", self.symbol, self.position, part)
        first, end = answer["first"], self.position + len(part)
        for name, found in self.indicators.items():
            found[first:end] = answer[name]
        self.position = end
