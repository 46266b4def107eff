"""A worker with a model made from scratch: inputs × weights, learned by gradient descent.

    [service.films]
    command = ["python", "-m", "mlports_models.linear"]
    config = { alpha = 1e-11 }

    mlports call films.train 200000 99750000     # what a film cost, and what it brought in
    mlports call films.run 100000 2.5            # 250000.0

An input is a number, a vector of them, or a table of examples; a goal is a number or a vector, for each example.
There is no constant term: give an input that is always 1. The service's `config`, all of it optional:

- `alpha`: the length of a step (default: chosen for the inputs, so that it settles).
- `weight`: what every weight is at first (default: 1.0).
- `steps`: how many steps a training takes at most (default: 100,000).
- `snapshot`: see docs/snapshots.md. What is kept is the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlports_worker import Worker, current

from . import settings

if TYPE_CHECKING:
    from .linear_model import LinearModel

worker = Worker("linear")
_model: LinearModel


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _model
    settings.need_numpy("linear")
    from .linear_model import LinearModel

    _model = LinearModel(config)


@worker.method(idempotent=True)
def run(input: Any, weight: Any = None) -> Any:
    """Input × weight, by the learned weights if none are given."""
    return _model.run(input, weight)


@worker.method
def train(input: Any, goal: Any) -> dict[str, Any]:
    """Learns until a step changes nothing or `steps` are taken: gives weight, error, steps, alpha and settled.

    One that fails or is cancelled leaves the weights that there were; so does one whose caller's time is over.
    """
    return _model.train(input, goal, lambda: current().check())


@worker.method
def trace(input: Any, goal: Any) -> Iterator[dict[str, Any]]:
    """The same as a stream of step, weight, prediction, delta and error before each step; the last is where it ends."""
    yield from _model.trace(input, goal)


@worker.method(idempotent=True)
def weight() -> Any:
    """The weights: a number, a vector (of the inputs, or of the outputs) or inputs × outputs; None before training."""
    return _model.weight()


@worker.method
def reset() -> None:
    """Forgets what was learned."""
    _model.reset()


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _model.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _model.take(state)


if __name__ == "__main__":
    worker.run()
