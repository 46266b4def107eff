"""A slow worker. It stands for a service far away, and only waits: what it finds is nothing."""

from __future__ import annotations

import time

from mlports_worker import Cancelled, Worker, current

worker = Worker("archive")


@worker.method
def search(seconds: float) -> list[str]:
    """Takes so long, or until the caller has given it up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if current().cancelled:
            raise Cancelled
        time.sleep(0.02)
    return []


if __name__ == "__main__":
    worker.run()
