"""The indicators are pandas' own, however the bars come, and no bar counts twice or is left out unnoticed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_worker import Failure
from tests.extras import need

need("pandas")

import pandas as pd  # noqa: E402

from examples.market_analyzer.by_pandas import indicators as reference  # noqa: E402
from mlports_models.market import Market  # noqa: E402

NAMES = ("sma", "ema", "rsi", "vwap")
WINDOWS = {"sma": 5, "ema": 4, "rsi": 3, "vwap": 7}


def some_bars(count: int, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    low, high = close * random.uniform(0.95, 1, count), close * random.uniform(1, 1.05, count)
    return np.column_stack([close, high, low, close, random.uniform(1e3, 1e7, count)])


def taken_in_parts(market: Market, bars: Any, cuts: list[int]) -> dict[str, Any]:
    places = [0, *sorted(cuts), len(bars)]
    answers = [market.update("A", start, bars[start:end]) for start, end in pairwise(places) if start < end]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in NAMES}


@settings(max_examples=60)
@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 2**32 - 1))
def test_they_are_pandas_however_the_bars_are_divided(count: int, cuts: list[int], seed: int) -> None:
    bars = some_bars(count, seed)
    cuts = [min(cut, count) for cut in cuts]
    whole = taken_in_parts(Market(WINDOWS), bars, [])
    parts = taken_in_parts(Market(WINDOWS), bars, cuts)
    for name, right in reference(bars, WINDOWS).items():
        np.testing.assert_allclose(whole[name], right, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)  # to the last bit


@pytest.mark.parametrize("window", [1, 2, 50])
def test_windows_of_any_length(window: int) -> None:
    windows = dict.fromkeys(NAMES, window)
    bars = some_bars(300)
    found = taken_in_parts(Market(windows), bars, [1, 7, 100])
    for name, right in reference(bars, windows).items():
        np.testing.assert_allclose(found[name], right, rtol=1e-9, atol=1e-9, err_msg=name)


def test_no_error_grows_over_a_million_bars() -> None:
    """Guards against sums that are carried on: after one price of 10¹² they would be wrong for ever."""
    bars = some_bars(1000)
    bars[3] *= 1e12
    market = Market(WINDOWS)
    for start in range(0, 1_000_000, 1000):
        last = market.update("A", start, bars if not start else np.roll(bars, -4, axis=0)[:1000])
    calm = np.roll(bars, -4, axis=0)
    right = pd.Series(calm[900:990, 3]).rolling(5).mean().to_numpy()[4:]
    np.testing.assert_allclose(last["sma"][904:990], right, rtol=1e-12)


def test_bars_that_come_again_change_nothing_and_missing_ones_are_asked_for() -> None:
    market, bars = Market(WINDOWS), some_bars(40)
    market.update("A", 0, bars[:20])
    again = market.update("A", 10, bars[10:20])
    assert again["first"] == 20
    assert all(len(again[name]) == 0 for name in NAMES)
    overlapping = market.update("A", 15, bars[15:30])
    assert (overlapping["first"], len(overlapping["sma"])) == (20, 10)
    with pytest.raises(Failure, match="30 comes next") as caught:
        market.update("A", 35, bars[35:])
    assert (caught.value.code, caught.value.data) == ("failed_precondition", {"position": 30})
    rest = market.update("A", 30, bars[30:])
    np.testing.assert_allclose(rest["sma"], reference(bars, WINDOWS)["sma"][30:], rtol=1e-9)


@pytest.mark.parametrize("place", [0, 1, 3, 20])
def test_the_last_call_may_come_again_and_is_answered_again(place: int) -> None:
    """Guards what is lost when a worker dies after its snapshot, with the answer still to be sent."""
    bars, market = some_bars(40), Market(WINDOWS)
    if place:
        market.update("A", 0, bars[:place])
    first = market.update("A", place, bars[place:30])
    shorter = market.update("A", place, bars[place : place + 5])
    restored = Market(WINDOWS)
    restored.take(market.state())
    again, longer = restored.update("A", place, bars[place:30]), restored.update("A", place, bars[place:])
    assert first["first"] == again["first"] == longer["first"] == place
    for name in NAMES:
        np.testing.assert_array_equal(again[name], first[name], err_msg=name)
        np.testing.assert_array_equal(shorter[name], first[name][:5], err_msg=name)
        np.testing.assert_array_equal(longer[name][: 30 - place], first[name], err_msg=name)
    assert (market.position("A"), restored.position("A")) == (30, 40)


@pytest.mark.parametrize("place", [1, 2, 3, 6, 19])
def test_what_is_kept_goes_on_to_the_last_bit(place: int) -> None:
    bars = some_bars(40)
    market, whole = Market(WINDOWS), taken_in_parts(Market(WINDOWS), bars, [])
    market.update("A", 0, bars[:place])
    restored = Market(WINDOWS)
    restored.take(market.state())
    rest = restored.update("A", place, bars[place:])
    for name in NAMES:
        np.testing.assert_array_equal(rest[name], whole[name][place:], err_msg=name)


def test_a_snapshot_for_other_windows_is_refused() -> None:
    market = Market(WINDOWS)
    market.update("A", 0, some_bars(8))
    with pytest.raises(Failure, match="windows"):
        Market({}).take(market.state())


@pytest.mark.parametrize(
    ("symbol", "number", "bars", "words"),
    [
        ("A", 0, [[1, 2, 3, 4]], "shape"),
        ("A", 0, [], "empty"),
        ("A", 0, [[1, 2, 3, 4, float("nan")]], "NaN"),
        ("A", 0, [[1, 2, 3, 4, -1]], "volume"),
        ("A", 0, "bars", "rows of numbers"),
        ("A", -1, [1, 2, 3, 4, 5], "number"),
        ("A", True, [1, 2, 3, 4, 5], "number"),
        ("", 0, [1, 2, 3, 4, 5], "symbol"),
        (7, 0, [1, 2, 3, 4, 5], "symbol"),
    ],
)
def test_what_is_no_bar_is_refused_and_nothing_is_lost(symbol: Any, number: Any, bars: Any, words: str) -> None:
    market = Market(WINDOWS)
    market.update("A", 0, some_bars(8))
    with pytest.raises(Failure, match=words):
        market.update(symbol, number, bars)
    assert market.position("A") == 8


@pytest.mark.parametrize(
    ("config", "words"), [({"smaa": 3}, "did you mean 'sma'"), ({"ema": 0}, "from 1"), ({"rsi": 2.5}, "int")]
)
def test_a_wrong_config_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure, match=words):
        Market(config)


def test_a_price_that_stands_still_and_a_day_without_trade() -> None:
    bars = np.full((12, 5), 7.0)
    bars[:, 4] = 0
    found = Market(WINDOWS).update("A", 0, bars)
    assert np.isnan(found["vwap"]).all()
    np.testing.assert_array_equal(found["rsi"][3:], 50)
    np.testing.assert_array_equal(found["sma"][4:], 7)


def test_a_bar_whose_sums_would_be_no_numbers_is_refused() -> None:
    market = Market({})
    with pytest.raises(Failure, match="at most 1e"):
        market.update("A", 0, [[1e308, 1e308, 1e308, 1e308, 1.0]])
    assert market.position("A") == 0
