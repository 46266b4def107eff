"""Gradient descent from scratch: a model that multiplies its inputs by weights, and the steps that find them.

For examples X (n × inputs), goals Y (n × outputs) and weights W (inputs × outputs) a step is

    delta = X W − Y;    gradient = Xᵀ delta / n;    W ← W − gradient · alpha

which lowers the error, the mean over the examples of Σ delta², as long as alpha < 2 / λ, λ being the largest
eigenvalue of Xᵀ X / n. For one number each, it is `weight -= (input * weight - goal) * input * alpha`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mlports_worker import Failure

from .numeric import Array, numbers

_PATIENCE = 100  # steps
_NEXT_TO_NOTHING = 1e-9  # of the weights' own length


class Examples(NamedTuple):
    """What to learn from: `x` (n × inputs) and `y` (n × outputs), and how they were sent."""

    x: Array
    y: Array
    one: bool  # example: x had no axis for several
    scalar_x: bool
    scalar_y: bool


class Step(NamedTuple):
    """Where a descent is: `weights` (inputs × outputs) before step `number`, and how far they lead from the goals."""

    number: int
    weights: Array
    predictions: Array
    delta: Array
    error: float


def examples(inputs: Any, goals: Any) -> Examples:
    """One example (a number or a vector, and its goal or goals), or rows of inputs with a goal or a row of them each.

    Raises `Failure` for other shapes.
    """
    x, y = numbers(inputs, "input"), numbers(goals, "goal")
    one = x.ndim < 2
    if x.ndim > 2 or y.ndim > (1 if one else 2) or (not one and len(y) != len(x)):
        raise Failure(
            "invalid_argument",
            f"inputs of shape {x.shape} do not go with goals of shape {y.shape}: give one number or vector and its "
            "goals, or a table of inputs and as many goals, or rows of goals",
        )
    scalar_y = y.ndim == (0 if one else 1)
    rows = 1 if one else len(x)
    return Examples(x.reshape(rows, -1), y.reshape(rows, -1), one, x.ndim == 0, scalar_y)


def run(inputs: Any, weights: Any) -> Array:
    """Inputs × weights: numbers are multiplied, vectors and tables multiplied as matrices. Raises `Failure`."""
    x, w = numbers(inputs, "input"), numbers(weights, "weight")
    if not x.ndim or not w.ndim:
        return x * w
    if x.shape[-1] != w.shape[0] or x.ndim > 2 or w.ndim > 2:
        raise Failure("invalid_argument", f"inputs of shape {x.shape} cannot be multiplied by weights of {w.shape}")
    return np.asarray(x @ w)


def steepest_stable(x: Array) -> float:
    """2 / λ: from this alpha on a descent over `x` (n × inputs) does not settle. Infinite when all inputs are 0.

    Raises `Failure` for inputs whose squares are too large, or too small, to be numbers.
    """
    norm = float(np.linalg.norm(x, 2))
    largest = norm * norm / len(x)
    if not np.isfinite(largest) or (norm and not largest):
        size = "large" if norm > 1 else "small"
        raise Failure("invalid_argument", f"the inputs are too {size} to be squared: scale them to about 1")
    return 2 / largest if largest else float("inf")


def choose_alpha(x: Array) -> float:
    """1 / λ, half of what would be too much; 1 when all inputs are 0 and nothing can be learned."""
    limit = steepest_stable(x)
    return limit / 2 if np.isfinite(limit) else 1.0


def descend(weights: Array, given: Examples, alpha: float) -> Iterator[Step]:
    """The steps from `weights` on, without end: who takes them says when it is enough.

    Raises `Failure` when the error grows past all numbers, which is when alpha is too large.
    """
    x, y = given.x, given.y
    number = 0
    while True:
        with np.errstate(over="ignore", invalid="ignore"):
            predictions = x @ weights
            delta = predictions - y
            error = float((delta * delta).sum() / len(x))
        if not np.isfinite(error):
            raise Failure(
                "failed_precondition",
                f"the error grew past all numbers by step {number}: alpha = {alpha:g} is too large for these inputs. "
                f"Below {steepest_stable(x):.3g} it settles; leave alpha out to have it chosen",
            )
        yield Step(number, weights, predictions, delta, error)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = weights - x.T @ delta / len(x) * alpha
        number += 1


def until_settled(steps: Iterator[Step], most: int) -> Iterator[Step]:
    """`steps` up to where they settle, but no more than `most` and the one that they begin with.

    They have settled at weights that hit every goal or that a step leaves as they are; and when steps that are next to
    nothing get no shorter for a hundred of them: each is shorter than that before it until rounding is all there is.
    """
    shortest, at = float("inf"), 0
    last: Array | None = None
    for step in steps:
        if last is not None:
            length = float(np.linalg.norm(step.weights - last))
            if not length:
                return
            if length < shortest or length > _NEXT_TO_NOTHING * float(np.linalg.norm(last)):
                shortest, at = min(length, shortest), step.number
        yield step
        if step.number >= most or step.number - at >= _PATIENCE or not step.delta.any():
            return
        last = step.weights
