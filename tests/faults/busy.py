"""A worker whose handlers take a minute, each in its own way; `idle` is done at once. All say when they have begun."""

from __future__ import annotations

import time

from mlports_worker import Worker, current

worker = Worker("busy")


@worker.method
def idle() -> None:
    current().progress(0)


@worker.method
def spins() -> None:
    current().progress(0)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


@worker.method
def sleeps() -> None:
    current().progress(0)
    time.sleep(60)


@worker.method
async def blocks_the_loop() -> None:
    current().progress(0)
    time.sleep(60)


worker.run()
