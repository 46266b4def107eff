"""A worker with a neural network of any layers, made from scratch, whose inputs may be symbols.

    [service.net]
    command = ["python", "-m", "mlports_models.neural_net"]
    config = { layers = [5, 5, 1], seed = 7 }

    orch.call("net.backprop", [0.5, "red", 3, None, 1], [1])     # one step; the loss before it
    orch.call("net.predict", [0.5, "blue", 3, None, 1])          # an array of 1

A row is a list of as many entries as the first layer has: numbers, texts, which are *factors*, symbols whose values
need not be known ahead, and None for what is not known. The service's `config`, all of it optional:

- `layers`: how many inputs, hidden neurons in each layer, and outputs; or say so later, by `start_link`.
- `hidden`: "tanh" (default), "relu" or "sigmoid"; `output`: "sigmoid" (default: outputs from 0 to 1, each for itself),
  "softmax" (they sum to 1) or "linear" (any number).
- `optimizer`: "adam" (default) or "sgd"; `rate`: its step (default: 0.01, or 0.1 with "sgd").
- `batch`: rows in a mini-batch (default: 32). `seed`: the same gives the same network (default: 0).
- `dtype`: "float64" (default) or "float32". `max_factors`: how many symbols there may be (default: 100,000).
- `snapshot`: see docs/snapshots.md. What is kept is the whole network.

Learning changes the one replica that it reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlports_worker import Failure, Worker, current

from . import settings

if TYPE_CHECKING:
    from .net.learner import NeuralNet

worker = Worker("neural_net")
_config: dict[str, Any]
_net: NeuralNet | None = None


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy, checks the config and makes the network. Ends the worker, with the reason, if it cannot."""
    global _config, _net
    settings.need_numpy("neural_net")
    from .net.learner import NeuralNet

    _config = config
    _net = NeuralNet(config) if "layers" in config else None


@worker.method
def start_link(layers: Any, options: Any = None) -> dict[str, Any]:
    """Makes a fresh network in place of the one there was, and gives its `info()`.

    `options` are those of the config that are to be different.
    """
    global _net
    from .net.learner import NeuralNet

    if not isinstance(layers, list) or not isinstance(options, dict | None):
        raise Failure("invalid_argument", "start_link takes a list of sizes, such as [5, 5, 1], and a map of options")
    _net = NeuralNet({**_config, **(options or {}), "layers": layers})
    return _net.info()


@worker.method(batch=True, idempotent=True)
def predict(rows: list[Any]) -> list[Any]:
    """What the last layer says to a row, or to each row of a table."""
    return _there().predict(rows)


@worker.method
def backprop(rows: Any, targets: Any) -> float:
    """Learns from one row and its target, or from a table and its targets in one step. Gives the loss before it."""
    return _there().backprop(rows, targets)


@worker.method
def fit(rows: Any, targets: Any, epochs: int = 1) -> dict[str, Any]:
    """Learns from a table in mini-batches, in another order each epoch. Gives `info()` and each epoch's mean loss.

    One that is cancelled, or is out of time, keeps what it has learned until then.
    """

    def check(done: int) -> None:
        context = current()
        context.check()
        if done != told[-1]:
            told.append(done)
            context.progress(done, epochs, "epochs")

    told = [0]
    net = _there()
    losses = net.fit(rows, targets, epochs, check)
    return {**net.info(), "losses": losses}


@worker.method(input=True)
def fit_stream(blocks: Iterator[Any]) -> dict[str, Any]:
    """One epoch over a stream of blocks [rows, targets], of any number of rows in all. Gives the rows and mean loss."""
    return _there().fit_stream(blocks)


@worker.method(idempotent=True)
def evaluate(rows: Any, targets: Any) -> dict[str, Any]:
    """The loss on a table, and the share of rows for which the answer is on the right side."""
    return _there().evaluate(rows, targets)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The layers, and how many weights, symbols, epochs and steps there are or were."""
    return _there().info()


@worker.method(idempotent=True)
def snapshot() -> dict[str, Any]:
    """The whole network: its layers, symbols, and how far it has learned."""
    return _there().state()


@worker.method
def restore(state: Any) -> dict[str, Any]:
    """Goes on from a `snapshot()`, in place of the network there was, and gives `info()`."""
    global _net
    from .net.learner import NeuralNet

    _net = NeuralNet.from_state(state)
    return _net.info()


def _there() -> NeuralNet:
    if _net is None:
        raise Failure(
            "failed_precondition", "there is no network yet: start_link([5, 5, 1]), or say layers in the config"
        )
    return _net


@worker.snapshot
def keep() -> Any:
    """What a crash leaves."""
    return None if _net is None else _net.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    if state is not None:
        restore(state)


if __name__ == "__main__":
    worker.run()
