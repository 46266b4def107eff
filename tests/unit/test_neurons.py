"""Neurons that cast to one another: what they say and learn is what the layers' arrays say and learn."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_models.net.layers import Layers
from mlports_models.net.learner import NeuralNet
from mlports_models.net.neurons import Crowd, Neuron
from mlports_worker import Failure


def layered(sizes: list[int], **config: Any) -> NeuralNet:
    return NeuralNet({"layers": sizes, "optimizer": "sgd", **config})


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from(["tanh", "sigmoid", "relu"]),
    st.sampled_from(["sigmoid", "linear"]),
    st.integers(0, 2**32 - 1),
)
def test_a_crowd_learns_what_layers_learn(sizes: list[int], hidden: str, output: str, seed: int) -> None:
    """Losses, answers and every weight, to 1e-9, after five steps of different numbers of rows."""
    layers = layered(sizes, hidden=hidden, output=output, seed=seed)
    random = np.random.default_rng(seed)

    async def compare() -> None:
        async with Crowd(sizes, seed=seed, hidden=hidden, output=output) as crowd:
            for rows in (1, 4, 2, 7, 3):
                x, targets = random.normal(size=(rows, sizes[0])), random.uniform(0, 1, (rows, sizes[-1]))
                assert await crowd.backprop(x, targets) == pytest.approx(layers.backprop(x, targets), abs=1e-9)
                np.testing.assert_allclose(await crowd.predict(x), layers.predict([x])[0], atol=1e-9)
            for (layer, index), neuron in crowd.neurons.items():
                np.testing.assert_allclose(neuron.weights, layers.layers.weights[layer - 1][:, index], atol=1e-9)
                assert neuron.bias == pytest.approx(layers.layers.biases[layer - 1][index], abs=1e-9)

    asyncio.run(compare())


def test_a_neuron_says_nothing_until_all_have_spoken() -> None:
    neuron = Neuron([2, 1], 1, 0, Layers.begin([2, 1], "tanh", "sigmoid", 0), 0.1, "tanh", "sigmoid")
    assert neuron.receive("value", 1, [0.5, 1.0]) == []
    (cast,) = neuron.receive("value", 0, [1.0, 2.0])
    assert cast.kind == "answer"
    assert len(cast.data[0]) == 2


def test_what_one_neuron_cannot_do_alone_is_refused() -> None:
    whole = Layers.begin([2, 1], "tanh", "softmax", 0)
    with pytest.raises(Failure, match="softmax needs"):
        Neuron([2, 1], 1, 0, whole, 0.1, "tanh", "softmax")


@pytest.mark.parametrize(
    ("kind", "sender", "data", "words"),
    [
        ("answer", 0, [1.0], "no 'answer'"),
        ("value", 2, [1.0], "from number 2"),
        ("slope", 0, [1.0], "no 'slope'"),
        ("value", 1, [1.0, 2.0], "2 rows came from number 1"),
    ],
)
def test_a_message_that_is_out_of_place_is_refused_and_loses_nothing(
    kind: Any, sender: int, data: Any, words: str
) -> None:
    neuron = Neuron([2, 1], 1, 0, Layers.begin([2, 1], "tanh", "sigmoid", 0), 0.1, "tanh", "sigmoid")
    neuron.receive("value", 0, [1.0])
    with pytest.raises(Failure, match=words):
        neuron.receive(kind, sender, data)
    assert [cast.kind for cast in neuron.receive("value", 1, [2.0])] == ["answer"]


def test_a_crowd_is_not_left_waiting_for_what_nobody_sends() -> None:
    async def ask() -> None:
        async with Crowd([2, 1]) as crowd:
            with pytest.raises(Failure, match="rows of 2 numbers"):
                await crowd.predict(np.ones((1, 3)))
            with pytest.raises(Failure, match="rows of 1 numbers"):
                await crowd.backprop(np.ones((1, 2)), np.ones(1))

    asyncio.run(ask())
