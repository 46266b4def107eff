"""The worker: a line, y = 3 x + 1."""

from __future__ import annotations

from mlports_worker import Worker

worker = Worker("model")


@worker.method(idempotent=True)
def predict(x: float) -> float:
    """What the line says for x."""
    return 3 * x + 1


if __name__ == "__main__":
    worker.run()
