"""Online logistic regression goes down the very gradient of its loss, and what it keeps is enough to go on from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlports_models.online_logistic import OnlineLogistic
from mlports_worker import Failure


def cases(count: int, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    table = random.normal(3, 5, size=(count, 4))
    return table, (table[:, 0] - table[:, 1] + random.normal(0, 3, count) > 0).astype(int)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_each_step_is_adagrad_s_down_the_loss_s_gradient(count: int, seed: int) -> None:
    """The reference standardises by numpy's mean and deviation, and takes the gradient by differences of the loss."""
    table, frauds = cases(count, seed)
    model = OnlineLogistic({"rate": 0.3, "l2": 0.01})
    model.learn(table, frauds)
    weights, moved = np.zeros(5), np.zeros(5)
    for place, (case, label) in enumerate(zip(table, frauds, strict=True)):
        before = table[:place]
        deviation = before.std(axis=0) if place > 1 else np.ones(4)
        away = np.clip((case - before.mean(axis=0)) / deviation, -8, 8) if place else np.zeros(4)
        inputs, sign = np.append(away, 1.0), 1 - 2 * label

        def loss(at: Any, inputs: Any = inputs, sign: int = sign) -> float:
            return float(np.logaddexp(0, sign * (inputs @ at)) + 0.005 * (at[:-1] @ at[:-1]))

        gradient = np.array([(loss(weights + e) - loss(weights - e)) / 2e-6 for e in np.eye(5) * 1e-6])
        gradient[np.abs(gradient) < 1e-8] = 0  # what is left of the differences' rounding
        moved += gradient**2
        weights = weights - 0.3 * gradient / np.sqrt(np.where(moved > 0, moved, 1))
    np.testing.assert_allclose(model.info()["weights"], weights, rtol=1e-4, atol=1e-5)


def test_it_is_judged_before_it_learns_however_cases_are_divided() -> None:
    table, frauds = cases(60)
    whole, one_by_one = OnlineLogistic({}), OnlineLogistic({})
    found = whole.learn(table, frauds)
    for case, fraud, at_once in zip(table, frauds, found, strict=True):
        expected = one_by_one.predict(case)
        assert one_by_one.learn(case, int(fraud)) == expected == at_once
    assert found[0] == 0.5
    np.testing.assert_array_equal(whole.predict(table), [one_by_one.predict(case) for case in table])


@pytest.mark.parametrize("place", [0, 1, 2, 30])
def test_what_is_kept_goes_on_the_same(place: int) -> None:
    table, frauds = cases(60)
    model, restored = OnlineLogistic({}), OnlineLogistic({})
    if place:
        model.learn(table[:place], frauds[:place])
    restored.take(model.state())
    np.testing.assert_array_equal(
        model.learn(table[place:], frauds[place:]), restored.learn(table[place:], frauds[place:])
    )


def test_a_feature_that_never_changes_and_one_that_leaps_do_no_harm() -> None:
    table, frauds = cases(60)
    table[:, 2] = 7.0
    table[59, 3] = 1e300
    model = OnlineLogistic({})
    found = model.learn(table[:59], frauds[:59])
    assert np.isfinite(found).all()
    assert 0 <= model.predict(table[59]) <= 1


@pytest.mark.parametrize(
    ("case", "fraud", "words"),
    [
        ([1, 2], 1, "2 features"),
        ([1, 2, 3, 4], 2, "1 or 0"),
        ([1, 2, 3, 4], [1, 0], "1 cases, and 2 answers"),
        ([1, 2, 3, None], 1, "numbers"),
        ([[[1]]], 1, "shape"),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [0, 0.5], "1 or 0"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_lost(case: Any, fraud: Any, words: str) -> None:
    model = OnlineLogistic({})
    model.learn(*cases(10))
    with pytest.raises(Failure, match=words):
        model.learn(case, fraud)
    assert model.info()["cases"] == 10


@pytest.mark.parametrize(
    ("config", "words"), [({"rate": 0}, "above 0"), ({"l2": -1}, "0 or more"), ({"rat": 3}, "did you mean 'rate'")]
)
def test_a_wrong_config_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure, match=words):
        OnlineLogistic(config)
