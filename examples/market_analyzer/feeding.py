"""Feeds one symbol's bars to the service `market`, and gets every indicator of every bar, whatever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlports import CallError, Orchestrator, WorkerCrashed

INDICATORS = ("sma", "ema", "rsi", "vwap")


class Feed:
    """One symbol: how far its bars have come, what the indicators were, and the state to go back to.

    `at_once` bars go in one call, and after each `keep_every` of them the symbol's state is kept. `sent` counts bars;
    it is more than there are by those that were sent again.
    """

    def __init__(self, orch: Orchestrator, symbol: str, bars: Any, at_once: int = 500, keep_every: int = 1000) -> None:
        self.symbol = symbol
        self.bars = bars
        self.position = self.sent = 0
        self.indicators = {name: np.full(len(bars), np.nan) for name in INDICATORS}
        self._orch, self._at_once, self._keep_every = orch, at_once, keep_every
        self._kept: Any = None
        self._kept_at = 0

    async def run(self, watch: Callable[[Feed], None] = lambda feed: None) -> None:
        """Until the last bar. `watch` is called after each answer."""
        while self.position < len(self.bars):
            try:
                await self._step()
            except WorkerCrashed:
                continue  # the orchestrator starts another; what it does not know comes out at the next call
            except CallError as error:
                if error.code not in ("failed_precondition", "not_found"):
                    raise
                await self._go_back()
            watch(self)

    async def _step(self) -> None:
        part = self.bars[self.position : self.position + self._at_once]
        self.sent += len(part)
        answer = await self._orch.call("market.update", self.symbol, self.position, part)
        first, end = answer["first"], self.position + len(part)
        for name, found in self.indicators.items():
            found[first:end] = answer[name]
        self.position = end
        if self.position - self._kept_at >= self._keep_every:
            state = await self._orch.call("market.state", self.symbol)
            if state["position"] > self._kept_at:  # another worker may know less
                self._kept, self._kept_at = state, state["position"]

    async def _go_back(self) -> None:
        """To the newest state that the worker has, or that was kept here."""
        if self._kept is not None:
            await self._orch.call("market.load", self.symbol, self._kept)
        self.position = await self._orch.call("market.position", self.symbol)
