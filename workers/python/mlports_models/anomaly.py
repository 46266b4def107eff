"""A worker that finds the odd ones among readings as they come, without labels: half-space trees, from scratch.

    [service.monitor]
    command = ["python", "-m", "mlports_models.anomaly"]
    config = { rate = 0.01 }

    async for found in orch.stream("monitor.watch", input=sensor()): ...

A reading is a vector of numbers, always as many. Each is judged by those before it, and then learned from: the first
`window` of them tell only how far the numbers range, and have no score. The service's `config`, all of it optional:

- `rate`: the share of readings that may raise an alert (default: 0.02): the highest scores among the last 2,000.
- `window`: the trees know the last so many readings and up to as many more (default: 500).
- `trees`, `depth`: how many trees, and how often each halves the space (default: 50 and 10).
- `seed`: of what is drawn at random (default: 0).
- `snapshot`: see docs/snapshots.md. What is kept is all that was learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .detector import Detector

worker = Worker("anomaly")
_detector: Detector


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _detector
    settings.need_numpy("anomaly")
    from .detector import Detector

    _detector = Detector(config)


@worker.method(input=True)
def watch(readings: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """For each item of the stream, a reading or a table of them, what `judge` gives; the next is taken only then."""
    for reading in readings:
        yield _detector.judge(reading)


@worker.method
def judge(readings: Any) -> dict[str, Any]:
    """Judges a reading, or each row of a table, and learns from it.

    The answer: `number`, how many readings came before; `score`, from 0 to 1: how odd, NaN for the first window; and
    `alert`, whether the score is above `threshold` (see `info`). For a table, the last two are arrays.
    """
    return _detector.judge(readings)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """How many readings were seen, of how many features, and the score above which one raises an alert."""
    return _detector.info()


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _detector.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _detector.take(state)


if __name__ == "__main__":
    worker.run()
