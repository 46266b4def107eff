"""Named arrays: what is taken for which dtype and shape, and how rows of several callers go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_models import tensors
from mlports_models.tensors import Tensor
from mlports_worker import Failure

X = Tensor("x", "float32", (None, 3))
WEIGHT = Tensor("weight", "float32", ("n",))
IMAGE = Tensor("image", "uint8", (1, 2, 2))
ANY = Tensor("any", "float32", None)


def refused(*words: str) -> Any:
    """A block that has to raise a `Failure` of wrong arguments, with these words in its message."""
    return pytest.raises(
        Failure, check=lambda failure: failure.code == "invalid_argument" and all(w in failure.message for w in words)
    )


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", [1, 2.5], [1, 2.5]),
        ("float32", [True, None], [1, np.nan]),
        ("float32", np.array([1e300, 2])[1:], [2]),
        ("float32", [float("inf")], [float("inf")]),
        ("float64", np.float16(0.5), 0.5),
        ("uint8", [0, 255], [0, 255]),
        ("int32", np.array([7], "u8"), [7]),
        ("int64", [], []),
        ("bool", [True], [True]),
        ("str", ["a", ""], ["a", ""]),
        ("str", "a", "a"),
    ],
)
def test_numbers_take_the_models_dtype(dtype: str, value: Any, expected: Any) -> None:
    array = Tensor("x", dtype, None).array(value)
    assert array.dtype == (object if dtype == "str" else dtype)
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        ("float32", [1e39], ["too large"]),
        ("float32", ["1.5"], ["texts"]),
        ("float32", None, ["a list or an array"]),
        ("float32", b"1.5", ["a list or an array"]),
        ("float32", [[1], [2, 3]], ["ragged"]),
        ("float32", [1j], ["dtype"]),
        ("int64", [1.0], ["float64", "without loss"]),
        ("int64", [None], ["without loss"]),
        ("uint8", [-1], ["too large"]),
        ("uint8", [256], ["too large"]),
        ("int64", np.array([2**63], "u8"), ["too large"]),
        ("bool", [1], ["without loss"]),
        ("str", [1], ["takes texts"]),
        ("str", ["a", 1], ["takes texts"]),
    ],
)
def test_what_would_lose_by_it_is_refused(dtype: str, value: Any, words: list[str]) -> None:
    with refused(*words):
        Tensor("x", dtype, None).array(value)


def test_a_row_is_told_from_a_table_by_the_declared_shape() -> None:
    row, table = tensors.asked([1, 2, 3], [X]), tensors.asked(np.ones((5, 3)), [X])
    assert (row.rows, row.single, row.values["x"].shape) == (1, True, (1, 3))
    assert (table.rows, table.single) == (5, False)
    both = tensors.asked({"x": [1, 2, 3], "weight": 0.5}, [X, WEIGHT])
    assert (both.single, both.values["weight"].shape) == (True, (1,))
    assert not tensors.asked([[1, 2], [3, 4]], [ANY]).single
    assert tensors.asked(np.ones((1, 2, 2), int), [IMAGE]).values["image"].dtype == "uint8"


@pytest.mark.parametrize(
    ("value", "inputs", "words"),
    [
        ([1, 2], [X], ["'x' (float32, shape [?, 3])", "a row", "shape [2]"]),
        (np.ones((2, 2, 3)), [X], ["shape [2, 2, 3]"]),
        (np.ones((2, 2), int), [IMAGE], ["[1, 2, 2]", "shape [2, 2]"]),
        (1.0, [ANY], ["any shape", "shape []"]),
        ([1, 2, 3], [X, WEIGHT], ["2 inputs", "'x', 'weight'"]),
        ({"x": [1, 2, 3], "wieght": 1}, [X, WEIGHT], ["missing: 'weight'", "unknown: 'wieght'"]),
        ({"x": np.ones((2, 3)), "weight": [1, 2, 3]}, [X, WEIGHT], ["'x' 2, 'weight' 3"]),
        ({"x": np.ones((2, 3)), "weight": 1.0}, [X, WEIGHT], ["'weight'", "shape []"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(value: Any, inputs: list[Tensor], words: list[str]) -> None:
    with refused(*words):
        tensors.asked(value, inputs)


class Sums:
    """A model whose outputs are each row's sum and the row itself; a row with a NaN makes it fail."""

    calls = 0

    def __call__(self, given: tensors.Values) -> dict[str, Any]:
        self.calls += 1
        if np.isnan(given["x"]).any():
            raise Failure("invalid_argument", "NaN")
        return {"sum": given["x"].sum(axis=1), "row": given["x"]}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3),
            st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
            st.just([1.0, None, 2.0]),
            st.just("nothing"),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_each_gets_its_own_rows(values: list[Any], together: bool) -> None:
    model = Sums()
    for value, outcome in zip(values, tensors.predict(values, [X], together, model), strict=True):
        if value == "nothing" or None in value:
            assert isinstance(outcome, Failure)
            continue
        rows = np.array(value, "f4")
        np.testing.assert_array_equal(outcome["sum"], rows.sum(axis=-1))
        np.testing.assert_array_equal(outcome["row"], rows)
    good = [value for value in values if value != "nothing"]
    if together and good and not any(None in value for value in good):
        assert model.calls == 1


def test_what_is_not_given_by_rows_is_run_for_each_alone() -> None:
    def total(given: tensors.Values) -> dict[str, Any]:
        return {"total": given["x"].sum()}

    found = tensors.predict([[1, 2, 3], np.ones((2, 3))], [X], True, total)
    assert found == [6, 6]
    assert type(found[0]) is float
