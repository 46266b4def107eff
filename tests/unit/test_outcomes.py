"""The answers to batches, as workers may give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlports.runtime.outcomes import outcomes, plain_results, take_apart


def test_the_usual_answer() -> None:
    assert plain_results([[None, 1], [None, "two"]], 2) == [1, "two"]
    assert take_apart([[None, 1], [None, None]], 2) == ([1, None], {})


@pytest.mark.parametrize(
    "result",
    [None, 7, "ab", {}, [], [1, 2], ["ab", "cd"], [[None, 1]], [[None], [None]], [[None, 1], [None]], [[], []]],
    ids=repr,
)
def test_what_is_no_such_answer(result: Any) -> None:
    assert plain_results(result, 2) is None
    assert all(error is None or error["code"] == "internal" for error, _ in outcomes(result, 2))


def test_an_error_is_its_items_own() -> None:
    refused = {"code": "unknown", "message": "no"}
    assert plain_results([[refused, None], [None, 2]], 2) is None
    assert take_apart([[refused, None], [None, 2]], 2) == ([None, 2], {0: refused})


def test_an_array_is_no_error() -> None:
    results, errors = take_apart([[np.arange(3), None], [None, 2]], 2)
    assert results == [None, 2]
    assert "an error is nil or a map" in errors[0]["message"]
