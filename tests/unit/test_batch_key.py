"""Which calls may share a batch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mlports.core.batching import batch_key


class Alone:
    pass


ALIKE: list[list[list[Any]]] = [
    [[1], [2.5], [True], [np.float32(1)], [np.int64(3)], [np.array(2)]],
    [["a"], ["longer"], [np.str_("b")]],
    [[b"a"], [bytearray(b"longer")], [memoryview(b"c")]],
    [[None], [None]],
    [[{}], [{"a": 1}]],
    [[[1, 2, 3]], [[4, 5.0, True]], [(7, 8, 9)]],
    [[[1, 2]], [[3, 4]]],
    [[["a", "b"]], [["c", "d"]]],
    [[[]], [()]],
    [[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]],
    [[[[1, 2, 3], [3, 4, 5]]]],
    [[[[[1]]]]],
    [[np.zeros(3, "<f4")], [np.ones(3, "f4")]],
    [[np.zeros(3, "<f8")]],
    [[np.zeros((3, 1), "<f4")]],
    [[np.zeros(0, "<f4")]],
    [[np.zeros(3, "i4,f4")], [np.ones(3, "i4,f4")]],
    [[np.zeros(3, "i4,i4")]],
    [[[np.zeros(3), np.zeros(3)]], [[np.ones(3), np.ones(3)]]],
    [[], []],
    [[1, 2], [3, 4]],
    [[1, "a"], [2, "b"]],
    [["a", 1]],
    [[Alone()], [Alone()]],
]


@pytest.mark.parametrize("place", [None, "shape"])
def test_calls_of_one_shape_share_a_batch_and_no_others(place: Any) -> None:
    groups = [{batch_key(params, place) for params in alike} for alike in ALIKE]
    assert [len(group) for group in groups] == [1] * len(ALIKE)
    assert len(set.union(*groups)) == len(ALIKE)


def test_an_argument_can_be_the_key() -> None:
    assert batch_key([1, "fr"], 1) == batch_key([2, "fr"], 1) != batch_key([1, "en"], 1)
    assert batch_key([(1, "a")], 0) == batch_key([(1, "a")], 0)


def test_a_call_without_that_argument_shares_with_its_like() -> None:
    assert batch_key([1], 1) == batch_key([2], 1) == batch_key([], 1)
    assert batch_key([1], 1) != batch_key([1, None], 1)


def test_nan_is_one_key() -> None:
    assert batch_key([float("nan")], 0) == batch_key([float("nan")], 0) != batch_key([1.0], 0)


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.zeros(2), bytearray(b"a"), ([1],)])
def test_a_value_that_cannot_be_a_key(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"argument 1, counted from 0.* of type {type(value).__name__} cannot.*shape"):
        batch_key(["a", value], 1)


@pytest.mark.parametrize("deep", [9, 50, 5000])
def test_lists_in_lists_have_a_depth_from_which_nobody_looks(deep: int) -> None:
    value: list[Any] = []
    for _ in range(deep):
        value = [value]
    assert hash(batch_key([value], None)) == hash(batch_key([value], None))


def test_a_list_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    assert hash(batch_key([value], None))


def test_numpy_is_not_imported() -> None:
    code = "import sys, mlports.core.batching as b; b.batch_key([[1], 'a'], None); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
