"""A worker with the indicators of market data: SMA, EMA, RSI and VWAP, brought up to date bar by bar, for each symbol.

    [service.market]
    command = ["python", "-m", "mlports_models.indicators"]
    replicas = 2
    route = "hash"          # a symbol's state is in one replica, so all its calls go there
    key = 0                 # the symbol

A bar is [open, high, low, close, volume]; bars are numbered from 0 for each symbol, so that none counts twice and none
is left out unnoticed, whatever happens to the worker. The service's `config`, all of it optional:

- `sma`, `ema`, `vwap`: over so many bars (default: 20).
- `rsi`: over so many changes (default: 14).
- `snapshot`: see docs/snapshots.md. What is kept is all symbols' state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .market import Market

worker = Worker("indicators")
_market: Market


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _market
    settings.need_numpy("indicators")
    from .market import Market

    _market = Market(config)


@worker.method(idempotent=True)
def update(symbol: str, number: int, bars: Any) -> dict[str, Any]:
    """Takes bars (n × 5, or one of 5) of which the first has this number; gives the indicators after each new one.

    The answer: `first`, the number of the first bar that was new, and `sma`, `ema`, `rsi` and `vwap`, an array each,
    with an element for each new bar, NaN where there were too few before. Bars that were known already change nothing;
    those of a symbol's last call are answered again, in case the answer was lost.
    Fails with `failed_precondition` if bars are missing; its data's `position` is the number of the first.
    """
    return _market.update(symbol, number, bars)


@worker.method(idempotent=True)
def position(symbol: str) -> int:
    """The number of the symbol's next bar: 0 for one that is unknown."""
    return _market.position(symbol)


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _market.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _market.take(state)


if __name__ == "__main__":
    worker.run()
