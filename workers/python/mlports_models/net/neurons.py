"""A network without layers' arrays: each neuron is one of its own, and data is cast from neuron to neuron.

`Neuron` decides what follows from what it is sent; who carries its casts is another's matter: `Crowd` gives each neuron
a coroutine with an inbox, the worker `mlports_models.neuron` a process. The arithmetic is that of `layers`, neuron by
neuron: the results differ by the order of sums alone.

    value  v of a row, for each row of a batch: from a neuron, or an input, to each neuron of the next layer
    target t for each row: to an output neuron, before the values; without it the batch teaches nothing
    slope  of the loss in the sender's share of the receiver's value: from a neuron to each of the layer before
    answer from an output neuron to nobody: its values, and its part of the loss, if it had targets
    learned from a neuron of the first layer to nobody: every neuron on every way to it has learned by then
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mlports_worker import Failure

from .layers import HIDDEN, OUTPUT, Array, Layers

Kind = Literal["value", "target", "slope", "answer", "learned"]


class Cast(NamedTuple):
    """A message to number `neuron` of `layer` (1 is the first, 0 is who asks), from number `sender` of its layer."""

    layer: int
    neuron: int
    kind: Kind
    sender: int
    data: Any


class Neuron:
    """Number `index` of layer `layer` of a network of `sizes`, with the weights that `Layers.begin` gives it.

    It learns by plain gradient descent of this `rate`. Raises `Failure` for softmax, whose outputs need one another.
    """

    def __init__(
        self, sizes: Sequence[int], layer: int, index: int, whole: Layers, rate: float, hidden: str, output: str
    ) -> None:
        if output == "softmax":
            raise Failure("unimplemented", "softmax needs the sums of all outputs: say sigmoid or linear for neurons")
        self.weights = whole.weights[layer - 1][:, index].copy()
        self.bias = float(whole.biases[layer - 1][index])
        self._layer, self._index = layer, index
        self._before, self._after = sizes[layer - 1], (sizes[layer + 1] if layer + 1 < len(sizes) else 0)
        self._rate = rate
        self._hidden, self._output = HIDDEN[hidden], output
        self._values: dict[int, Array] = {}
        self._slopes: dict[int, Array] = {}
        self._inputs: Array | None = None  # those of the batch that is under way (before × rows)
        self._own: Array | None = None
        self._targets: Array | None = None

    def receive(self, kind: Kind, sender: int, data: Any) -> list[Cast]:
        """What it casts for what it is sent: nothing until all have sent theirs. Raises `Failure`."""
        numbers = np.asarray(data, float)
        if kind == "target" and not self._after:
            self._targets = numbers
            return []
        heard, of = (self._values, self._before) if kind == "value" else (self._slopes, self._after)
        if kind not in ("value", "slope") or not 0 <= sender < of:
            raise Failure("invalid_argument", f"this neuron waits for no {kind!r:.80} from number {sender}")
        if any(len(other) != len(numbers) for other in heard.values()):
            raise Failure(
                "invalid_argument", f"{len(numbers)} rows came from number {sender}; others sent another number"
            )
        heard[sender] = numbers
        if len(heard) < of:
            return []
        return self._fire() if kind == "value" else self._sum_slopes()

    def _fire(self) -> list[Cast]:
        self._inputs = np.stack([self._values[sender] for sender in range(self._before)])
        self._values = {}
        z = self.weights @ self._inputs + self.bias
        if self._after:
            self._own = self._hidden.of(z)
            return [Cast(self._layer + 1, to, "value", self._index, self._own) for to in range(self._after)]
        answer = OUTPUT[self._output](z)
        if self._targets is None:
            return [self._tell("answer", [answer, None])]
        targets, self._targets = self._targets, None
        linear = self._output == "linear"
        losses = 0.5 * np.square(z - targets) if linear else np.logaddexp(0.0, z) - targets * z
        return [self._tell("answer", [answer, float(losses.mean())]), *self._learn((answer - targets) / len(z))]

    def _sum_slopes(self) -> list[Cast]:
        assert self._own is not None
        slopes = sum(self._slopes[sender] for sender in range(self._after))
        self._slopes = {}
        return self._learn(slopes * self._hidden.slope(self._own))

    def _learn(self, delta: Any) -> list[Cast]:
        assert self._inputs is not None
        shares = self.weights  # as they were: what each sender's value was multiplied by
        self.weights = self.weights - self._rate * (self._inputs @ delta)
        self.bias -= self._rate * float(delta.sum())
        if self._layer == 1:
            return [self._tell("learned", None)]
        return [
            Cast(self._layer - 1, to, "slope", self._index, share * delta) for to, share in enumerate(shares.tolist())
        ]

    def _tell(self, kind: Kind, data: Any) -> Cast:
        return Cast(0, 0, kind, self._index, data)


class Crowd:
    """A network each of whose neurons is a coroutine with an inbox. To be used within `async with`."""

    def __init__(
        self, sizes: Sequence[int], seed: int = 0, rate: float = 0.1, hidden: str = "tanh", output: str = "sigmoid"
    ) -> None:
        whole = Layers.begin(sizes, hidden, output, seed)
        self._sizes = list(sizes)
        self.neurons = {
            (layer, index): Neuron(sizes, layer, index, whole, rate, hidden, output)
            for layer in range(1, len(sizes))
            for index in range(sizes[layer])
        }
        self._inboxes: dict[tuple[int, int], asyncio.Queue[Cast]] = {place: asyncio.Queue() for place in self.neurons}
        self._told: dict[Kind, asyncio.Queue[Cast]] = {"answer": asyncio.Queue(), "learned": asyncio.Queue()}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        self._tasks = [asyncio.create_task(self._live(place)) for place in self.neurons]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def predict(self, x: Array) -> Array:
        """The output neurons' answers to rows (n × inputs)."""
        self._check(x, self._sizes[0])
        self._send_inputs(x)
        answers = await self._hear("answer", self._sizes[-1])
        return np.stack([answers[index][0] for index in range(self._sizes[-1])], axis=1)

    async def backprop(self, x: Array, targets: Array) -> float:
        """One step by these rows together; the loss before it."""
        self._check(x, self._sizes[0])
        self._check(targets, self._sizes[-1])
        last = len(self._sizes) - 1
        for index, column in enumerate(np.asarray(targets, float).T):
            self._inboxes[last, index].put_nowait(Cast(last, index, "target", 0, column))
        self._send_inputs(x)
        answers = await self._hear("answer", self._sizes[-1])
        await self._hear("learned", self._sizes[1])
        return float(sum(loss for _, loss in answers.values()))

    def _check(self, table: Array, width: int) -> None:
        if np.ndim(table) != 2 or np.shape(table)[1] != width:
            # A neuron would wait for ever for what nobody sends.
            raise Failure("invalid_argument", f"rows of {width} numbers go here, not an array of {np.shape(table)}")

    def _send_inputs(self, x: Array) -> None:
        for sender, column in enumerate(np.asarray(x, float).T):
            for index in range(self._sizes[1]):
                self._inboxes[1, index].put_nowait(Cast(1, index, "value", sender, column))

    async def _hear(self, kind: Kind, count: int) -> dict[int, Any]:
        casts = [await self._told[kind].get() for _ in range(count)]
        return {cast.sender: cast.data for cast in casts}

    async def _live(self, place: tuple[int, int]) -> None:
        neuron, inbox = self.neurons[place], self._inboxes[place]
        while True:
            cast = await inbox.get()
            for reply in neuron.receive(cast.kind, cast.sender, cast.data):
                to = self._inboxes[reply.layer, reply.neuron] if reply.layer else self._told[reply.kind]
                to.put_nowait(reply)
