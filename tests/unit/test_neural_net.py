"""The neural network from scratch: its slopes against finite differences, its symbols, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier

from mlports_models.net.layers import Layers
from mlports_models.net.learner import NeuralNet
from mlports_models.net.optimizers import Adam
from mlports_worker import Failure

XOR = [[0, 0], [0, 1], [1, 0], [1, 1]]
NOT_EQUAL = [0, 1, 1, 0]


def never(done: int) -> None:
    """A call that nobody cancels."""


def net(*sizes: int, **config: Any) -> NeuralNet:
    return NeuralNet({"layers": list(sizes), **config})


def refused(code: str, *words: str) -> Any:
    """A block that has to raise a `Failure` of this code, with these words in its message."""
    return pytest.raises(Failure, check=lambda e: e.code == code and all(word in e.message for word in words))


def targets_for(output: str, random: np.random.Generator, rows: int, outputs: int) -> Any:
    given = random.uniform(0, 1, (rows, outputs))
    return given / given.sum(axis=1, keepdims=True) if output == "softmax" else given


def same(left: NeuralNet, right: NeuralNet) -> bool:
    ours, theirs = left.state(), right.state()
    pairs = [*zip(ours["weights"], theirs["weights"], strict=True), *zip(ours["biases"], theirs["biases"], strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs) and np.array_equal(ours["factors"], theirs["factors"])


# -- backpropagation


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from(["tanh", "sigmoid", "relu"]),
    st.sampled_from(["sigmoid", "softmax", "linear"]),
    st.integers(0, 2**32 - 1),
)
def test_backpropagation_gives_the_slopes_that_finite_differences_give(
    sizes: list[int], hidden: str, output: str, seed: int
) -> None:
    """The reference is the loss alone: (loss(w + h) - loss(w - h)) / 2h, for every single weight and bias."""
    random = np.random.default_rng(seed)
    layers = Layers.begin(sizes, hidden, output, seed)
    for biases in layers.biases:  # at 0 a neuron that gets nothing would stand on the edge of "relu"
        biases[:] = random.normal(size=biases.shape)
    x, extra = random.normal(size=(3, sizes[0])), random.normal(size=(3, sizes[1]))
    targets = targets_for(output, random, 3, sizes[-1])
    found = layers.gradients(x, targets, extra)
    assert found.loss == pytest.approx(layers.loss(x, targets, extra), rel=1e-12)
    for array, slopes in [
        *zip(layers.weights, found.weights, strict=True),
        *zip(layers.biases, found.biases, strict=True),
        (extra, found.into_first),
    ]:
        assert array.shape == slopes.shape
        for place in np.ndindex(array.shape):
            was, h = array[place], 1e-6
            array[place] = was + h
            above = layers.loss(x, targets, extra)
            array[place] = was - h
            below = layers.loss(x, targets, extra)
            array[place] = was
            assert slopes[place] == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-7)


def test_losses_are_those_of_their_definitions() -> None:
    """Guards the forms that cannot overflow against the textbook's."""
    x, t = np.array([[0.3, -0.2], [1.0, 2.0]]), np.array([[0.2, 0.8], [1.0, 0.0]])
    for output in ("sigmoid", "softmax", "linear"):
        layers = Layers.begin([2, 3, 2], "tanh", output, 1)
        p = layers.answer(x)
        with np.errstate(invalid="ignore", divide="ignore"):  # not all of them are probabilities
            expected = {
                "sigmoid": -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / 2,
                "softmax": -(t * np.log(p)).sum() / 2,
                "linear": 0.5 * ((p - t) ** 2).sum() / 2,
            }
        assert layers.loss(x, t) == pytest.approx(expected[output], rel=1e-12)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "linear"])
def test_large_sums_neither_overflow_nor_warn(output: str) -> None:
    layers = Layers.begin([1, 2], "tanh", output, 0)
    layers.weights[0][:] = [[1e4, -1e4]]
    found = layers.gradients(np.ones((1, 1)), np.array([[0.0, 1.0]]))
    assert math.isfinite(found.loss)
    assert np.isfinite(found.weights[0]).all()


def test_a_step_is_what_scikit_learn_steps() -> None:
    """The same weights, rows and rate through scikit-learn's own network give the same weights after one epoch."""
    random = np.random.default_rng(5)
    x, y = random.normal(size=(64, 4)), random.integers(0, 2, 64)
    theirs = MLPClassifier((6,), activation="tanh", solver="sgd", alpha=0, batch_size=64, learning_rate_init=0.1)
    theirs.set_params(momentum=0.0, nesterovs_momentum=False, max_iter=1, shuffle=False, random_state=0)
    theirs.partial_fit(x, y, classes=[0, 1])
    ours = net(4, 6, 1, optimizer="sgd", rate=0.1)
    for mine, other in zip(ours.layers.weights, theirs.coefs_, strict=True):
        mine[:] = other
    for mine, other in zip(ours.layers.biases, theirs.intercepts_, strict=True):
        mine[:] = other
    theirs.partial_fit(x, y)
    ours.backprop(x, y)
    np.testing.assert_allclose(ours.layers.weights[0], theirs.coefs_[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.layers.biases[1], theirs.intercepts_[1], rtol=1e-10, atol=1e-12)


def test_adam_steps_as_its_paper_says() -> None:
    """Algorithm 1 written out, over an array that is longer than one piece."""
    random = np.random.default_rng(3)
    ours = random.normal(size=20_000)
    theirs, m, v = ours.copy(), np.zeros(20_000), np.zeros(20_000)
    adam = Adam(0.01)
    for t in range(1, 4):
        g = random.normal(size=20_000)
        adam.begin()
        adam.change("w", ours, g)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theirs -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# -- learning


def test_it_learns_what_no_line_can_part() -> None:
    learner = net(2, 8, 1, seed=1)
    losses = learner.fit(XOR * 16, NOT_EQUAL * 16, 200, never)
    assert losses[-1] < 0.05 < losses[0]
    assert learner.evaluate(XOR, NOT_EQUAL)["accuracy"] == 1.0


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    first, again, other = (net(2, 4, 1, seed=seed) for seed in (7, 7, 8))
    for learner in (first, again, other):
        learner.fit(XOR * 10, NOT_EQUAL * 10, 3, never)
    assert same(first, again)
    assert not same(first, other)


def test_a_stream_of_blocks_teaches_what_its_rows_in_order_teach() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(96, 3)), random.uniform(0, 1, 96)
    blocks, steps = net(3, 4, 1, batch=16), net(3, 4, 1, batch=16)
    told = blocks.fit_stream([[x[:64], y[:64]], [x[64:], y[64:]]])
    losses = [steps.backprop(x[start : start + 16], y[start : start + 16]) for start in range(0, 96, 16)]
    assert told == {"rows": 96, "loss": pytest.approx(np.mean(losses))}
    assert same(blocks, steps)


def test_a_fit_that_is_cancelled_keeps_what_it_has_learned() -> None:
    learner = net(2, 4, 1, batch=4)
    untrained = net(2, 4, 1, batch=4)

    def at_the_second_epoch(done: int) -> None:
        if done == 1:
            raise Failure("cancelled", "enough")

    with refused("cancelled"):
        learner.fit(XOR, NOT_EQUAL, 5, at_the_second_epoch)
    assert learner.info()["steps"] == 1
    assert not same(learner, untrained)


def test_single_precision_is_kept() -> None:
    learner = net(2, 4, 1, dtype="float32")
    learner.fit([["a", 1.0]], [1], 2, never)
    assert {array.dtype.name for array in (*learner.layers.weights, learner.factors.table)} == {"float32"}
    assert learner.predict([np.ones((3, 2))])[0].dtype == np.float32


# -- symbols


def test_symbols_are_learned_as_they_turn_up() -> None:
    """Not equal, of four symbols: nobody said before which there would be."""
    rows = [[left, right] for left in ("a", "b") for right in ("x", "y")]
    learner = net(2, 6, 1, seed=3)
    assert learner.info()["factors"] == 0
    learner.fit(rows * 16, NOT_EQUAL * 16, 60, never)
    assert learner.info()["factors"] == 4
    assert learner.evaluate(rows, NOT_EQUAL)["accuracy"] == 1.0


def test_a_symbol_is_as_an_input_that_is_one_for_it_alone() -> None:
    """The reference is a network of one input for each symbol, with the same weights and steps."""
    symbols = net(1, 3, 1, optimizer="sgd", seed=2)
    rows, targets = [["a"], ["b"], ["a"], ["c"]], [1, 0, 1, 1]
    symbols.factors.slots_of(rows, learn=True)
    ones = net(3, 3, 1, optimizer="sgd", seed=2)
    ones.layers.weights[0][:] = symbols.factors.weights
    ones.layers.weights[1][:] = symbols.layers.weights[1]
    one_hot = np.eye(3)[[0, 1, 0, 2]]
    for _ in range(5):
        assert symbols.backprop(rows, targets) == pytest.approx(ones.backprop(one_hot, targets), rel=1e-12)
    np.testing.assert_allclose(symbols.factors.weights, ones.layers.weights[0], rtol=1e-12)


def test_an_unknown_symbol_says_what_none_says_and_is_not_kept() -> None:
    learner = net(2, 4, 1)
    learner.backprop([["a", 1.0]], [1])
    new, nothing = learner.predict([["never seen", 1.0], [None, 1.0]])
    assert new == nothing
    assert learner.info()["factors"] == 1


def test_the_order_in_which_symbols_turn_up_does_not_matter() -> None:
    first, second = net(1, 4, 1), net(1, 4, 1)
    first.factors.slots_of([["a"], ["b"]], learn=True)
    second.factors.slots_of([["b"], ["a"]], learn=True)
    np.testing.assert_array_equal(first.factors.weights, second.factors.weights[::-1])


def test_the_same_text_in_another_place_is_another_symbol() -> None:
    learner = net(2, 4, 1)
    learner.backprop([["a", "a"]], [1])
    assert learner.info()["factors"] == 2


def test_symbols_without_end_are_refused_and_none_of_them_is_kept() -> None:
    learner = net(1, 2, 1, max_factors=3)
    learner.backprop([["a"], ["b"]], [1, 0])
    with refused("resource_exhausted", "'d'", "max_factors"):
        learner.backprop([["a"], ["c"], ["d"]], [1, 0, 1])
    assert learner.info()["factors"] == 2


def test_many_symbols_take_room_as_they_come() -> None:
    learner = net(1, 2, 1)
    for start in range(0, 500, 50):
        learner.backprop([[f"s{number}"] for number in range(start, start + 50)], [0.5] * 50)
    assert len(learner.factors.weights) == 500
    assert len(learner.factors.table) < 1100


# -- snapshots


def test_a_network_goes_on_from_its_snapshot_as_if_nothing_had_been() -> None:
    rows = [["a", 1.0], ["b", 0.5], [None, -1.0], ["c", 0.0]]
    learner = net(2, 4, 1, seed=4, batch=2)
    learner.fit(rows[:3], [1, 0, 1], 2, never)
    later = NeuralNet.from_state(learner.state())
    assert same(learner, later)
    for each in (learner, later):
        each.fit(rows, [1, 0, 1, 0], 3, never)
    assert same(learner, later)
    assert learner.info() == later.info()


def test_symbols_that_no_step_has_met_yet_are_in_the_snapshot_too() -> None:
    """Guards a worker that dies after a fit was cancelled: its snapshot has to be one that it can go on from."""

    def at_once(done: int) -> None:
        raise Failure("cancelled", "enough")

    learner = net(1, 2, 1)
    learner.backprop([["a"]], [1])
    with refused("cancelled"):
        learner.fit([[text] for text in "bcdefghijklmnopqrstuvwxyz"], [1] * 25, 1, at_once)
    later = NeuralNet.from_state(learner.state())
    for each in (learner, later):
        each.backprop([["a"], ["z"]], [1, 0])
    assert same(learner, later)


def test_a_snapshot_is_a_copy() -> None:
    learner = net(2, 4, 1)
    learner.backprop([["a", 1]], [1])
    before = learner.state()
    was = [array.copy() for array in (before["weights"][0], before["factors"], before["optimizer"]["weights 0"][0])]
    learner.backprop([["a", 1]], [1])
    for array, kept in zip(
        (before["weights"][0], before["factors"], before["optimizer"]["weights 0"][0]), was, strict=True
    ):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(
    "state", [None, {}, {"config": {"layers": [1, 1]}}, {"config": {"layers": [1, 1]}, "weights": []}]
)
def test_what_is_no_snapshot_is_refused(state: Any) -> None:
    with refused("invalid_argument", "no snapshot"):
        NeuralNet.from_state(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights", [[1.0]] * 2),
        ("biases", [[float("nan")] * 4, [0.0]]),
        ("symbols", [[0, "a"], [0, "b"]]),
        ("symbols", [0]),
        ("optimizer", {"weights 0": [[0.0], [0.0]]}),
        ("optimizer", {"weights 9": [[0.0], [0.0]]}),
        ("epochs", None),
    ],
)
def test_a_snapshot_that_does_not_fit_together_is_refused(key: str, value: Any) -> None:
    """Else numpy would stretch one number over all weights, or the next step would fail, and every one after it."""
    learner = net(2, 4, 1)
    learner.backprop([["a", 1.0]], [1])
    with refused("invalid_argument", "no snapshot"):
        NeuralNet.from_state({**learner.state(), key: value})


# -- answers and errors


def test_many_values_get_what_each_gets_alone() -> None:
    learner = net(2, 3, 2, seed=1)
    learner.backprop([["a", 1]], [[1, 0]])
    values = [[1, 2], [[1, 2], [3, 4]], ["a", 2], np.ones((5, 2)), [1], [["a", None], [0, 1]]]
    together = learner.predict(values)
    assert [np.shape(each) for each in together] == [(2,), (2, 2), (2,), (5, 2), (), (2, 2)]
    assert isinstance(together[4], Failure)
    for index in (0, 1, 2, 3, 5):
        np.testing.assert_allclose(together[index], learner.predict([values[index]])[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([1, 2, 3], ["(1, 3)", "2 entries"]),
        ([["a", 1], ["b"]], ["row 1", "1 entries"]),
        ([[1, 2], [3]], ["row 1"]),
        ([1, float("nan")], ["row 0", "NaN", "None"]),
        ([["a", float("inf")]], ["row 0"]),
        ([["a", {}]], ["row 0", "{}"]),
        ([], ["2 entries"]),
        ("ab", ["'ab'"]),
        (5, ["5"]),
        (np.ones((2, 2, 2)), ["(2, 2, 2)"]),
    ],
)
def test_rows_that_are_none_are_refused(rows: Any, words: list[str]) -> None:
    learner = net(2, 3, 1)
    (failure,) = learner.predict([rows])
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_argument"
    assert all(word in failure.message for word in words), failure.message
    with refused("invalid_argument", *words):
        learner.backprop(rows, [1])
    assert learner.info()["steps"] == learner.info()["factors"] == 0


@pytest.mark.parametrize(
    ("output", "targets", "word"),
    [
        ("sigmoid", [[1, 0]], "2 rows and 2 outputs"),
        ("sigmoid", [[1, 0], [1, 2]], "0 to 1"),
        ("softmax", [[1, 0], [1, 1]], "sums to 1"),
        ("linear", [[1, 0], [1, float("inf")]], "infinity"),
        ("linear", [[1, 0, 1, 0]], "shape"),
    ],
)
def test_targets_that_do_not_fit_are_refused_and_no_symbol_is_kept(output: str, targets: Any, word: str) -> None:
    learner = net(2, 3, 2, output=output)
    with refused("invalid_argument", word):
        learner.backprop([["a", 1], ["b", 2]], targets)
    assert learner.info()["factors"] == 0


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    learner, untouched = (net(1, 1, output="linear", optimizer="sgd") for _ in range(2))
    with refused("failed_precondition", "scale the inputs"):
        learner.backprop([[1e200]], [[1e200]])
    assert same(learner, untouched)


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ({}, "failed_precondition", "start_link"),
        ({"layers": [5]}, "invalid_argument", "two sizes"),
        ({"layers": [5, 0, 1]}, "invalid_argument", "sizes"),
        ({"layers": [5, True]}, "invalid_argument", "sizes"),
        ({"layers": [10**5, 10**5]}, "resource_exhausted", "weights"),
        ({"layers": [1, 1], "hiden": "relu"}, "invalid_argument", "'hidden'"),
        ({"layers": [1, 1], "hidden": "step"}, "invalid_argument", "tanh, sigmoid, relu"),
        ({"layers": [1, 1], "rate": 0}, "invalid_argument", "above 0"),
        ({"layers": [1, 1], "batch": 0}, "invalid_argument", "1 or more"),
        ({"layers": [1, 1], "seed": -1}, "invalid_argument", "0 or more"),
    ],
)
def test_a_wrong_config_is_refused(config: Any, code: str, word: str) -> None:
    with refused(code, word):
        NeuralNet(config)


@pytest.mark.parametrize("epochs", [0, True, "3", 1.5])
def test_a_wrong_number_of_epochs_is_refused(epochs: Any) -> None:
    with refused("invalid_argument", "epochs"):
        net(1, 1).fit([[1]], [1], epochs, never)
