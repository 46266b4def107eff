"""The model made from scratch: the article's own figures digit for digit, and least squares where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from mlports_models.linear_model import LinearModel
from mlports_worker import Failure

BUDGET, GROSS = 200_000, 99_750_000  # of one film, in dollars
RATE = GROSS / BUDGET


def never() -> None:
    """A call that nobody cancels."""


def film(**more: Any) -> LinearModel:
    return LinearModel({"alpha": 1e-11, **more})


def refused(code: str, *words: str) -> Any:
    """A block that has to raise a `Failure` of this code, with these words in its message."""
    return pytest.raises(Failure, check=lambda e: e.code == code and all(word in e.message for word in words))


# -- one input, one weight


def test_the_weights_go_where_they_went_by_hand() -> None:
    steps = list(film().trace(BUDGET, GROSS))
    weights = [step["weight"] for step in steps]
    assert weights[:4] == [1.0, 200.1, 319.56, 391.236]
    assert weights[-2:] == [498.74999999999994, 498.75]
    assert weights == sorted(weights)
    assert [step["step"] for step in steps] == list(range(73))
    assert steps[-1] == {"step": 72, "weight": RATE, "prediction": float(GROSS), "delta": 0.0, "error": 0.0}


def test_each_step_is_the_rule_applied_by_hand() -> None:
    """Guards the order of the arithmetic, on which the last digits depend."""
    weight = 1.0
    for step in film().trace(BUDGET, GROSS):
        delta = BUDGET * weight - GROSS
        assert (step["weight"], step["delta"], step["error"]) == (weight, delta, delta * delta)
        weight -= delta * BUDGET * 1e-11


def test_delta_and_error_of_a_weight() -> None:
    (step, *_) = film(weight=2.5).trace(BUDGET, GROSS)
    assert (step["weight"], step["delta"], step["error"]) == (2.5, -9.925e7, 9.8505625e15)


def test_run_multiplies() -> None:
    model = film()
    assert model.run(100_000, 2.5) == 250_000
    with refused("failed_precondition", "train"):
        model.run(100_000, None)
    assert model.train(BUDGET, GROSS, never)["weight"] == RATE
    assert model.run(BUDGET, None) == GROSS


def test_what_is_learned_already_takes_no_step() -> None:
    model = film()
    assert model.train(BUDGET, GROSS, never)["steps"] == 72
    assert model.train(BUDGET, GROSS, never) == {
        "weight": RATE,
        "error": 0.0,
        "steps": 0,
        "alpha": 1e-11,
        "settled": True,
    }
    model.reset()
    assert model.weight() is None


@given(
    st.floats(0.01, 1e6) | st.floats(-1e6, -0.01),
    st.floats(-1e9, 1e9),
)
def test_any_number_is_met_by_an_alpha_of_its_own(number: float, goal: float) -> None:
    told = LinearModel({}).train(number, goal, never)
    assert told["settled"]
    assert told["weight"] * number == pytest.approx(goal, rel=1e-9, abs=1e-9)


# -- several of each


@pytest.fixture(scope="module")
def patients() -> tuple[Any, Any]:
    """442 patients: ten measurements and a 1, and two goals: how their diabetes went on, and its square root."""
    x, y = load_diabetes(return_X_y=True)
    return np.column_stack([x * len(x) ** 0.5, np.ones(len(x))]), np.column_stack([y, np.sqrt(y)])


def test_many_examples_end_at_least_squares(patients: tuple[Any, Any]) -> None:
    x, y = patients
    told = LinearModel({}).train(x, y, never)
    assert told["settled"]
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(told["weight"], best, rtol=1e-9, atol=1e-9)
    assert told["error"] == pytest.approx(((x @ best - y) ** 2).sum() / len(x), rel=1e-12)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_several_inputs_and_outputs_are_learned_together(inputs: int, outputs: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.linalg.qr(random.normal(size=(12, inputs)))[0] * random.uniform(1, 5, inputs)
    y = random.normal(size=(12, outputs))
    told = LinearModel({}).train(x, y, never)
    assert told["weight"].shape == (inputs, outputs)
    np.testing.assert_allclose(told["weight"], np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("inputs", "goals", "shape"),
    [
        (2.0, 3.0, ()),
        (2.0, [3.0, 4.0], (2,)),
        ([1.0, 2.0, 3.0], 3.0, (3,)),
        ([1.0, 2.0, 3.0], [3.0, 4.0], (3, 2)),
        ([[1.0, 2.0], [3.0, 1.0]], [3.0, 4.0], (2,)),
        ([[1.0, 2.0], [3.0, 1.0]], [[3.0], [4.0]], (2, 1)),
    ],
)
def test_weights_and_predictions_have_the_shape_of_what_was_given(inputs: Any, goals: Any, shape: Any) -> None:
    model = LinearModel({})
    model.train(inputs, goals, never)
    assert np.shape(model.weight()) == shape
    assert np.shape(model.run(inputs, None)) == np.shape(goals)
    np.testing.assert_allclose(model.run(inputs, None), goals, rtol=1e-9)
    last = list(model.trace(inputs, goals))[-1]
    assert np.shape(last["delta"]) == np.shape(last["prediction"]) == np.shape(goals)


def test_a_snapshot_goes_on_where_it_was(patients: tuple[Any, Any]) -> None:
    x, y = patients
    model, later = LinearModel({"steps": 5}), LinearModel({"steps": 5})
    model.train(x, y, never)
    later.take(model.state())
    assert model.train(x, y, never)["error"] == later.train(x, y, never)["error"]


# -- what goes wrong


def test_an_alpha_that_is_too_large_is_told_and_loses_nothing(patients: tuple[Any, Any]) -> None:
    x, y = patients
    model = LinearModel({"alpha": 5})
    model.take({"weight": [1.0]})
    with refused("failed_precondition", "alpha = 5", "0.497"):
        model.train(x, y, never)
    assert model.weight() == [1.0]


@pytest.mark.parametrize(("number", "word"), [(1e200, "too large"), (1e-200, "too small")])
def test_inputs_beyond_what_can_be_squared_are_told(number: float, word: str) -> None:
    with refused("invalid_argument", word, "scale"):
        LinearModel({}).train([[number]], [1], never)


def test_inputs_of_nothing_teach_nothing() -> None:
    told = LinearModel({}).train([[0.0], [0.0]], [1, 2], never)
    assert (told["steps"], told["settled"], told["error"]) == (0, True, 2.5)


def test_a_training_that_is_cancelled_loses_nothing() -> None:
    model = film()

    def cancelled() -> None:
        raise Failure("cancelled", "enough")

    with refused("cancelled"):
        model.train(BUDGET, GROSS, cancelled)
    assert model.weight() is None


def test_steps_that_do_not_suffice_are_said_so() -> None:
    told = film(steps=10).train(BUDGET, GROSS, never)
    assert (told["steps"], told["settled"]) == (10, False)
    assert told["error"] > 0


@pytest.mark.parametrize(
    ("inputs", "goals", "word"),
    [
        ("2", 3, "number"),
        (float("nan"), 3, "NaN"),
        ([[1], [2, 3]], [1, 2], "ragged"),
        ([], [], "empty"),
        ([[1], [2]], [1, 2, 3], "shape"),
        (1, [[2]], "shape"),
        ([[[1]]], [1], "shape"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(inputs: Any, goals: Any, word: str) -> None:
    with refused("invalid_argument", word):
        LinearModel({}).train(inputs, goals, never)


def test_inputs_that_do_not_fit_the_weights_are_refused() -> None:
    with refused("invalid_argument", "(3,)", "(2,)"):
        film().run([1, 2, 3], [1, 2])


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"aplha": 1}, "'alpha'"),
        ({"alpha": "1"}, "alpha takes int or float"),
        ({"alpha": True}, "alpha takes int or float"),
        ({"alpha": 0}, "above 0"),
        ({"alpha": float("nan")}, "above 0"),
        ({"steps": 0}, "1 or more"),
    ],
)
def test_a_wrong_config_is_refused(config: Any, word: str) -> None:
    with refused("invalid_argument", word):
        LinearModel(config)


def test_the_sdk_s_own_part_of_the_config_is_let_through() -> None:
    LinearModel({"snapshot": {"dir": "somewhere"}})
