"""A network that answers and learns: what the neural_net worker serves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from mlports_worker import Failure

from .. import settings
from ..numeric import numbers
from .batch import Batch, Rows, joined, rows_of
from .factors import Factors
from .layers import HIDDEN, OUTPUT, Array, Layers, spread
from .optimizers import OPTIMIZERS

_CONFIG: dict[str, tuple[type, ...]] = {
    "layers": (list,),
    "hidden": (str,),
    "output": (str,),
    "optimizer": (str,),
    "rate": (int, float),
    "batch": (int,),
    "seed": (int,),
    "dtype": (str,),
    "max_factors": (int,),
}
_CHOICES: dict[str, Collection[str]] = {
    "hidden": HIDDEN,
    "output": OUTPUT,
    "optimizer": OPTIMIZERS,
    "dtype": ("float64", "float32"),
}
_RATES = {"adam": 0.01, "sgd": 0.1}
_MOST_WEIGHTS = 500_000_000
_BLOCK = 4096  # rows that are answered at once


class NeuralNet:
    """A network and how it learns. `config` is the service's (see `neural_net`), with `layers`. Raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        _check(config)
        self.config = {key: value for key, value in config.items() if key in _CONFIG}
        self.sizes: list[int] = config["layers"]
        self.batch: int = config.get("batch", 32)
        self.seed: int = config.get("seed", 0)
        hidden, optimizer = config.get("hidden", "tanh"), config.get("optimizer", "adam")
        self.output: str = config.get("output", "sigmoid")
        dtype: str = config.get("dtype", "float64")
        self.layers = Layers.begin(self.sizes, hidden, self.output, self.seed, dtype)
        reach = spread(self.sizes[0], self.sizes[1], hidden)
        self.factors = Factors(self.sizes[1], reach, self.seed, config.get("max_factors", 100_000), dtype)
        self.optimizer = OPTIMIZERS[optimizer](float(config.get("rate", _RATES[optimizer])))
        self.epochs = self.steps = 0

    # -- answering

    def predict(self, values: list[Any]) -> list[Any]:
        """The last layer's answer to each row, or an array of them for each table; a `Failure` where one is wrong."""
        outcomes: list[Any] = [None] * len(values)
        good: list[tuple[int, Rows]] = []
        for index, value in enumerate(values):
            try:
                good.append((index, self._rows(value)))
            except Failure as failure:
                outcomes[index] = failure
        if good:
            answers = self._answer(joined([self._batch(rows, learn=False) for _, rows in good]))
            for index, rows in good:
                mine, answers = answers[: len(rows.x)], answers[len(rows.x) :]
                outcomes[index] = mine[0] if rows.single else mine
        return outcomes

    def evaluate(self, rows: Any, targets: Any) -> dict[str, Any]:
        """The loss, and the share of rows that are on the right side (None with the output "linear")."""
        batch, wanted = self._examples(rows, targets, learn=False)
        loss = self.layers.loss(batch.x, wanted, self._extra(batch))
        if self.output == "linear":
            return {"loss": loss, "accuracy": None}
        answers = self._answer(batch)
        if answers.shape[1] == 1:
            right = (answers > 0.5) == (wanted > 0.5)
        else:
            right = answers.argmax(axis=1) == wanted.argmax(axis=1)
        return {"loss": loss, "accuracy": float(right.mean())}

    # -- learning

    def backprop(self, rows: Any, targets: Any) -> float:
        """One step by these rows together; gives the loss before it."""
        return self._step(*self._examples(rows, targets, learn=True))

    def fit(self, rows: Any, targets: Any, epochs: Any, check: Callable[[int], None]) -> list[float]:
        """Each epoch's mean loss. `check(done)` is called before each mini-batch, and ends it by raising."""
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise Failure("invalid_argument", f"epochs is 1 or more, not {epochs!r:.80}")
        batch, wanted = self._examples(rows, targets, learn=True)
        losses = []
        for done in range(epochs):
            order = np.random.default_rng([self.seed, self.epochs]).permutation(len(batch.x))
            total = 0.0
            for start in range(0, len(order), self.batch):
                check(done)
                chosen = order[start : start + self.batch]
                total += len(chosen) * self._step(batch.part(chosen), wanted[chosen])
            losses.append(total / len(order))
            self.epochs += 1
        return losses

    def fit_stream(self, blocks: Iterable[Any]) -> dict[str, Any]:
        """One pass over blocks [rows, targets] as they come, each cut into mini-batches."""
        rows, total = 0, 0.0
        for number, block in enumerate(blocks):
            if not isinstance(block, list) or len(block) != 2:
                raise Failure("invalid_argument", f"block {number} is not [rows, targets]: {block!r:.80}")
            batch, wanted = self._examples(block[0], block[1], learn=True)
            for start in range(0, len(batch.x), self.batch):
                chosen = slice(start, start + self.batch)
                part = batch.part(chosen)
                total += len(part.x) * self._step(part, wanted[chosen])
            rows += len(batch.x)
        self.epochs += 1
        return {"rows": rows, "loss": total / rows if rows else None}

    # -- what is kept

    def info(self) -> dict[str, Any]:
        """See `neural_net.info`."""
        weights = sum(w.size + b.size for w, b in zip(self.layers.weights, self.layers.biases, strict=True))
        return {
            "layers": self.sizes,
            "weights": int(weights + self.factors.weights.size),
            "factors": len(self.factors.slots),
            "epochs": self.epochs,
            "steps": self.steps,
        }

    def state(self) -> dict[str, Any]:
        """A copy of all that it is made of, plain values and arrays: `from_state` makes the same again."""
        return {
            "config": self.config,
            "weights": [weights.copy() for weights in self.layers.weights],
            "biases": [biases.copy() for biases in self.layers.biases],
            "symbols": [list(symbol) for symbol in self.factors.slots],
            "factors": self.factors.weights.copy(),
            "optimizer": {
                key: [part[: len(self.factors.slots) if key == "factors" else None].copy() for part in value]
                if isinstance(value, list)
                else value
                for key, value in self.optimizer.state.items()
            },
            "epochs": self.epochs,
            "steps": self.steps,
        }

    @classmethod
    def from_state(cls, state: Any) -> NeuralNet:
        """The network that a `state()` was of. Raises `Failure` for anything else."""
        try:
            net = cls(state["config"])
            for mine, given in zip(net.layers.weights, state["weights"], strict=True):
                mine[:] = _like(mine, given)
            for mine, given in zip(net.layers.biases, state["biases"], strict=True):
                mine[:] = _like(mine, given)
            net.factors.put(state["symbols"], state["factors"])
            net.optimizer.state = {
                key: int(value) if key == "steps" else [_like(net._array(key, len(part)), part) for part in value]
                for key, value in state["optimizer"].items()
            }
            net.epochs, net.steps = int(state["epochs"]), int(state["steps"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            text = f"this is no snapshot of a network: {type(error).__name__}: {error}"
            raise Failure("invalid_argument", text) from error
        return net

    # -- its parts

    def _array(self, name: str, rows: int) -> Array:
        """What the optimizer knows by this name. Symbols may have turned up that it has not met: `rows` it has."""
        if name == "factors":
            return self.factors.weights[:rows]
        kind, layer = name.split()
        return {"weights": self.layers.weights, "biases": self.layers.biases}[kind][int(layer)]

    def _rows(self, value: Any) -> Rows:
        return rows_of(value, self.sizes[0], self.factors.table.dtype)

    def _batch(self, rows: Rows, learn: bool) -> Batch:
        return Batch(rows.x, None if rows.entries is None else self.factors.slots_of(rows.entries, learn))

    def _examples(self, value: Any, targets: Any, learn: bool) -> tuple[Batch, Array]:
        rows = self._rows(value)
        wanted = self._targets(targets, len(rows.x))  # first: what is refused adds no symbols
        return self._batch(rows, learn), wanted

    def _targets(self, value: Any, rows: int) -> Array:
        wanted, shape = numbers(value, "targets"), (rows, self.sizes[-1])
        if wanted.size != shape[0] * shape[1] or (wanted.ndim == 2 and wanted.shape != shape) or wanted.ndim > 2:
            raise Failure(
                "invalid_argument",
                f"targets of shape {wanted.shape} do not go with {shape[0]} rows and {shape[1]} outputs",
            )
        wanted = wanted.reshape(shape)
        if self.output != "linear" and (wanted.min() < 0 or wanted.max() > 1):
            raise Failure("invalid_argument", f"targets are from 0 to 1 where the output is {self.output}")
        if self.output == "softmax" and not np.allclose(wanted.sum(axis=1), 1, atol=1e-6):
            raise Failure("invalid_argument", "each row of targets sums to 1 where the output is softmax")
        return wanted.astype(self.factors.table.dtype, copy=False)

    def _extra(self, batch: Batch) -> Array | None:
        return None if batch.slots is None else self.factors.into_first(batch.slots)

    def _answer(self, batch: Batch) -> Array:
        blocks = [batch.part(slice(start, start + _BLOCK)) for start in range(0, len(batch.x), _BLOCK)]
        return np.concatenate([self.layers.answer(block.x, self._extra(block)) for block in blocks])

    def _step(self, batch: Batch, wanted: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            found = self.layers.gradients(batch.x, wanted, self._extra(batch))
        if not np.isfinite(found.loss):
            raise Failure(
                "failed_precondition",
                f"the loss is no number any more at step {self.steps}: scale the inputs to "
                "about 1 or lower the rate, and begin again with start_link",
            )
        self.optimizer.begin()
        for layer, (weights, biases) in enumerate(zip(self.layers.weights, self.layers.biases, strict=True)):
            self.optimizer.change(f"weights {layer}", weights, found.weights[layer])
            self.optimizer.change(f"biases {layer}", biases, found.biases[layer])
        if batch.slots is not None:
            used, slopes = self.factors.gradient(batch.slots, found.into_first)
            if len(used):
                self.optimizer.change("factors", self.factors.table, slopes, used)
        self.steps += 1
        return found.loss


def _like(mine: Array, given: Any) -> Array:
    array = np.array(given, mine.dtype)
    if array.shape != mine.shape or not np.isfinite(array).all():
        raise ValueError(f"an array of shape {array.shape} is not one of finite numbers of shape {mine.shape}")
    return array


def _check(config: dict[str, Any]) -> None:
    settings.check(config, _CONFIG)
    sizes = config.get("layers")
    if sizes is None:
        raise Failure(
            "failed_precondition", "there is no network yet: say layers = [5, 5, 1], or start_link([5, 5, 1])"
        )
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes)
    if len(sizes) < 2 or not whole:
        raise Failure(
            "invalid_argument", f"layers is a list of at least two sizes, such as [5, 5, 1], not {sizes!r:.80}"
        )
    weights = sum((before + 1) * after for before, after in pairwise(sizes))
    if weights > _MOST_WEIGHTS:
        raise Failure(
            "resource_exhausted", f"layers = {sizes} has {weights:,} weights; at most {_MOST_WEIGHTS:,} may be"
        )
    for key, choices in _CHOICES.items():
        if key in config and config[key] not in choices:
            raise Failure("invalid_argument", f"{key} is one of {', '.join(choices)}, not {config[key]!r:.80}")
    if not 0 < config.get("rate", 1) < float("inf"):
        raise Failure("invalid_argument", f"rate is above 0, not {config['rate']}")
    for key, least in (("batch", 1), ("seed", 0), ("max_factors", 0)):
        if config.get(key, least) < least:
            raise Failure("invalid_argument", f"{key} is {least} or more, not {config[key]}")
