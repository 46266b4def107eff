"""A worker that is one neuron: what it has to say it casts to other workers, each of them a neuron.

    [service.neuron_1_0]
    command = ["python", "-m", "mlports_models.neuron"]
    config = { layers = [5, 5, 1], layer = 1, index = 0, seed = 7 }

A network is as many services as it has neurons, named neuron_LAYER_INDEX, the first layer after the inputs being 1.
Who asks sends `take("value", input, numbers)`, one number for each row, from each input to each neuron of layer 1, and
waits for the `answer()` of each neuron of the last. To teach, it sends each of those `take("target", 0, numbers)`
first, and waits for `learned()` of each neuron of layer 1 before the next rows. examples/neurons does, and measures
it: this is the plainest way to build a network, and by far the slowest. The service's `config`:

- `layers`, `layer` and `index`: which neuron of which network this is.
- `hidden`, `output`, `seed`, `rate`: as of the worker `neural_net`, by its "sgd"; but there is no softmax.
- `name`: what services' names begin with (default: "neuron").
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

from mlports_worker import CallFailed, Failure, Worker

from . import settings

if TYPE_CHECKING:
    from .net.neurons import Cast, Neuron

worker = Worker("neuron")
_CONFIG: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("layers",), (list,)),
    **dict.fromkeys(("layer", "index", "seed"), (int,)),
    **dict.fromkeys(("hidden", "output", "name"), (str,)),
    "rate": (int, float),
}
_neuron: Neuron
_name: str
_told: dict[str, asyncio.Queue[Any]]
_sending: set[asyncio.Task[Any]] = set()


@worker.setup
async def start(config: dict[str, Any]) -> None:
    """Makes the neuron. Ends the worker, with the reason, if the config cannot be used."""
    global _neuron, _name, _told
    settings.need_numpy("neuron")
    settings.check(config, _CONFIG)
    from .net.learner import NeuralNet
    from .net.neurons import Neuron

    layer, index = config.get("layer", 1), config.get("index", 0)
    whole = NeuralNet({key: value for key, value in config.items() if key not in ("layer", "index", "name")})
    sizes = whole.sizes
    if not 1 <= layer < len(sizes) or not 0 <= index < sizes[layer]:
        raise Failure("invalid_argument", f"config: there is no neuron {index} in layer {layer} of {sizes}")
    hidden, output = config.get("hidden", "tanh"), config.get("output", "sigmoid")
    _neuron = Neuron(sizes, layer, index, whole.layers, float(config.get("rate", 0.1)), hidden, output)
    _name = config.get("name", "neuron")
    _told = {"answer": asyncio.Queue(), "learned": asyncio.Queue()}


@worker.method
async def take(kind: str, sender: int, data: Any) -> None:
    """Takes a message; what follows from it is on its way to other neurons, or to who asks, when this returns."""
    for cast in _neuron.receive(kind, sender, data):  # type: ignore[arg-type]  # it refuses other kinds
        if cast.layer == 0:
            _told[cast.kind].put_nowait(cast.data)
        else:
            # In a context of its own: this call is over before that one is, and does not wait for it.
            task = asyncio.create_task(_send(cast), context=Context())
            _sending.add(task)
            task.add_done_callback(_sending.discard)


@worker.method
async def answer() -> Any:
    """Waits for an output neuron's values for the rows, and the loss if it had targets."""
    return await _told["answer"].get()


@worker.method
async def learned() -> None:
    """Waits until a neuron of the first layer has learned from the rows."""
    await _told["learned"].get()


@worker.method(idempotent=True)
async def weights() -> list[Any]:
    """The weights of what comes in, and the bias."""
    return [_neuron.weights, _neuron.bias]


async def _send(cast: Cast) -> None:
    try:
        await worker.acall(f"{_name}_{cast.layer}_{cast.neuron}.take", cast.kind, cast.sender, cast.data)
    except CallFailed as failure:
        worker.log("error", f"a {cast.kind} for {_name}_{cast.layer}_{cast.neuron} was lost: {failure.message}")


if __name__ == "__main__":
    worker.run()
