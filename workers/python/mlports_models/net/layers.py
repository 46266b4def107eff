"""Layers of neurons as arrays: what they answer, how wrong that is, and which way each weight should go.

For n rows X (n × inputs) and the sizes [s₀, s₁ … s_L], with weights W_l (s_{l-1} × s_l) and biases b_l (s_l):

    z_l = a_{l-1} W_l + b_l;  a_0 = X;  a_l = hidden(z_l);  a_L = output(z_L)

The loss is the one that goes with the output, averaged over the rows: cross-entropy with "sigmoid" and "softmax", half
of the squared distance with "linear". With each, ∂loss/∂z_L = (a_L − targets) / n (Bishop, Pattern Recognition and
Machine Learning, 2006, 5.2), and from there back

    ∂loss/∂W_l = a_{l-1}ᵀ δ_l;  ∂loss/∂b_l = Σ_rows δ_l;  δ_{l-1} = (δ_l W_lᵀ) · hidden′(z_{l-1})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


def sigmoid(z: Array) -> Array:
    """1 / (1 + e⁻ᶻ), which cannot overflow written so."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def softmax(z: Array) -> Array:
    """e^z over its sum, row by row."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class Activation(NamedTuple):
    """A function of z, and its derivative written as a function of its own value."""

    of: Callable[[Array], Array]
    slope: Callable[[Array], Array]


HIDDEN = {
    "tanh": Activation(np.tanh, lambda a: 1.0 - a * a),
    "sigmoid": Activation(sigmoid, lambda a: a * (1.0 - a)),
    "relu": Activation(lambda z: np.maximum(z, 0.0), lambda a: (a > 0).astype(a.dtype)),
}
OUTPUT: dict[str, Callable[[Array], Array]] = {"sigmoid": sigmoid, "softmax": softmax, "linear": lambda z: z}


class Gradients(NamedTuple):
    """The loss before a step; its slope in each weight and bias; and in what goes into the first layer's neurons."""

    loss: float
    weights: list[Array]
    biases: list[Array]
    into_first: Array  # n × s₁


class Layers:
    """Weights and biases, and what they make of rows. `hidden` and `output` are names of `HIDDEN` and `OUTPUT`."""

    def __init__(self, weights: list[Array], biases: list[Array], hidden: str, output: str) -> None:
        self.weights = weights
        self.biases = biases
        self.hidden = HIDDEN[hidden]
        self.output = output

    @classmethod
    def begin(cls, sizes: Sequence[int], hidden: str, output: str, seed: int, dtype: str = "float64") -> Layers:
        """Untrained ones, the same for the same seed: biases 0, weights as `spread` says."""
        random = np.random.default_rng(seed)
        weights = []
        for before, after in pairwise(sizes):
            reach = spread(before, after, hidden)
            weights.append(random.uniform(-reach, reach, (before, after)).astype(dtype))
        return cls(weights, [np.zeros(size, dtype) for size in sizes[1:]], hidden, output)

    def answer(self, x: Array, extra: Array | None = None) -> Array:
        """What the last layer says to rows. `extra` (n × s₁) is added to what goes into the first layer's neurons."""
        return OUTPUT[self.output](self._forward(x, extra)[-1])

    def loss(self, x: Array, targets: Array, extra: Array | None = None) -> float:
        """How far the answers are from the targets (n × s_L)."""
        return _loss(self._forward(x, extra)[-1], targets, self.output)

    def gradients(self, x: Array, targets: Array, extra: Array | None = None) -> Gradients:
        """Backpropagation (Rumelhart, Hinton and Williams, 1986)."""
        *activations, z = self._forward(x, extra)
        delta = (OUTPUT[self.output](z) - targets) / len(x)
        weights: list[Array] = []
        biases: list[Array] = []
        for layer in reversed(range(len(self.weights))):
            weights.append(activations[layer].T @ delta)
            biases.append(delta.sum(axis=0))
            if layer:
                delta = (delta @ self.weights[layer].T) * self.hidden.slope(activations[layer])
        return Gradients(_loss(z, targets, self.output), weights[::-1], biases[::-1], delta)

    def _forward(self, x: Array, extra: Array | None) -> list[Array]:
        """a_0 … a_{L-1}, and z_L."""
        values = [x]
        last = len(self.weights) - 1
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = values[-1] @ weights
            z += biases
            if layer == 0 and extra is not None:
                z += extra
            values.append(z if layer == last else self.hidden.of(z))
        return values


def spread(before: int, after: int, hidden: str) -> float:
    """Weights begin within ± this: √(6 / (before + after)) (Glorot and Bengio, 2010), √(6 / before) before "relu"
    (He et al., 2015)."""
    return float(np.sqrt(6.0 / (before if hidden == "relu" else before + after)))


def _loss(z: Array, targets: Array, output: str) -> float:
    # Errors of half a million outputs in single precision are worth summing in double.
    if output == "linear":
        total = 0.5 * np.square(z - targets).sum(dtype=float)
    elif output == "sigmoid":
        total = (np.logaddexp(0.0, z) - targets * z).sum(dtype=float)
    else:
        top = z.max(axis=1, keepdims=True)
        powers = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
        total = (powers - (targets * z).sum(axis=1)).sum(dtype=float)
    return float(total / len(z))
