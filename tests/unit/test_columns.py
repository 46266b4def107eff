"""Batches by columns: what is put together, and what a worker makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlports.core.batching import columns_of
from mlports_worker.failures import Failure
from mlports_worker.handlers import Handler


def _both(xs: list[Any], ys: list[Any]) -> list[Any]:
    return [(x, y) for x, y in zip(xs, ys, strict=True)]


def test_arrays_that_agree_are_one() -> None:
    rows = [[np.array([i, i + 0.5]), f"row {i}"] for i in range(3)]
    columns = columns_of(rows)
    assert columns is not None
    assert columns[0].tolist() == [[0, 0.5], [1, 1.5], [2, 2.5]]
    assert columns[1] == ["row 0", "row 1", "row 2"]


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0], [2.0]],
        [[[1.0, 2.0]], [[3.0, 4.0]]],
        [[np.zeros(2)], [np.zeros(3)]],
        [[np.zeros(2)], [np.zeros(2, np.float32)]],
        [[np.zeros(2)], [[0.0, 0.0]]],
        [[np.zeros(2)], [np.zeros(2), 1]],
        [[np.array(1.0)], [np.array(2.0)]],
        [[np.zeros(0)], [np.zeros(0)]],
        [[np.array(["a"])], [np.array(["b"])]],
        [[np.ma.masked_array([1], [True])]] * 2,
        [[np.zeros(4096)]] * 2,  # large ones are sent from where they lie
    ],
)
def test_others_stay_rows(rows: list[list[Any]]) -> None:
    assert columns_of(rows) is None


@pytest.mark.parametrize("batch", [True, False])
def test_a_worker_takes_them_as_rows_or_columns(batch: bool) -> None:
    handler = Handler("both", _both, batch, False)
    params, columns = handler.take_batch([np.arange(6).reshape(3, 2), ["a", "b", "c"]], {"batch": 3, "columns": True})
    if batch:
        assert params == []
        assert columns is not None
        assert [row.tolist() for row in columns[0]] == [[0, 1], [2, 3], [4, 5]]
        assert columns[1] == ["a", "b", "c"]
    else:
        assert columns is None
        assert [(x.tolist(), y) for x, y in params] == [([0, 1], "a"), ([2, 3], "b"), ([4, 5], "c")]


@pytest.mark.parametrize("params", [[np.zeros((2, 2))], [[1, 2, 3], [1]], [np.array(1.0)], [5], [None]])
def test_columns_of_another_length_are_refused(params: list[Any]) -> None:
    with pytest.raises(Failure, match="columns that do not have so many rows"):
        Handler("both", _both, True, False).take_batch(params, {"batch": 3, "columns": True})
