"""The service beside the faulty one: it must not notice anything."""

from __future__ import annotations

import time

from mlports_worker import Worker

worker = Worker("neighbour")


@worker.method
def tick(number: int) -> int:
    """Gives the number back after 2 ms."""
    time.sleep(0.002)
    return number


worker.run()
