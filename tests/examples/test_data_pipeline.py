"""Real purchases: the flow says what the loop says, the outlook is the model's, and the best customers are found."""

from __future__ import annotations

import pytest

from tests.extras import need

need("lifetimes")

from examples.data_pipeline.__main__ import shares  # noqa: E402
from examples.data_pipeline.outlook import AHEAD, GONE_A, GONE_B, RATE_SCALE, RATE_SHAPE, chance, offer, outlook  # noqa: E402
from examples.data_pipeline.pipeline import break_even, by_flow, by_loop, histories_of, timed  # noqa: E402
from examples.data_pipeline.purchases import purchases  # noqa: E402


def test_a_flow_in_workers_says_what_the_loop_says_and_finds_those_who_buy() -> None:
    events = purchases()
    assert (len(events), sum(one.discs for one in events)) == (69_659, 167_881)
    found = by_flow(events, 1, workers=2)
    assert found == by_loop(events, 1)
    assert (len(found.outlooks), len(found.weeks)) == (23_570, 78)
    assert sum(found.weeks) == pytest.approx(sum(one.dollars for one in events))
    best, spent = shares(events, found.outlooks)
    assert best > 0.3  # of one future each; a tenth of the customers, and a tenth of the revenue were they any tenth
    assert spent > 0.4


def test_the_futures_are_on_average_what_the_papers_formula_expects() -> None:
    """Equation 10 of Fader, Hardie and Lee, with the hypergeometric function summed as a series."""
    for customer, (first, last, again) in enumerate([(0, 0, 0), (7, 140, 3), (70, 100, 1), (0, 270, 12)]):
        x, recency, age = again, (last - first) / 7, (273 - first) / 7
        z = AHEAD / (RATE_SCALE + age + AHEAD)
        term = series = 1.0
        for n in range(500):
            term *= (RATE_SHAPE + x + n) * (GONE_B + x + n) / (GONE_A + GONE_B + x - 1 + n) / (n + 1) * z
            series += term
        shrunk = ((RATE_SCALE + age) / (RATE_SCALE + age + AHEAD)) ** (RATE_SHAPE + x)
        if x:
            odds = GONE_A / (GONE_B + x - 1) * ((RATE_SCALE + age) / (RATE_SCALE + recency)) ** (RATE_SHAPE + x)
        else:
            odds = 0.0
        expected = (GONE_A + GONE_B + x - 1) / (GONE_A - 1) * (1 - shrunk * series) / (1 + odds)
        _, there, purchases_to_come, dollars = outlook([customer, [first, last, again, 10.0 * (again + 1)], 20_000])
        assert there == pytest.approx(1 / (1 + odds)) == chance([first, last, again, 1.0])
        assert purchases_to_come == pytest.approx(expected, rel=0.06)
        assert dollars == pytest.approx(10 * purchases_to_come)


def test_offers_and_the_break_even_point() -> None:
    assert offer(0.9, 3.0, 50.0) == "new releases first"
    assert offer(0.3, 0.5, 50.0).startswith("we miss you")
    assert break_even([(1, 0.1), (10, 0.5), (1000, 1.5)]) == pytest.approx(100)
    assert break_even([(1, 0.1), (10, 0.5)]) is None
    assert break_even([(5, 1.2), (10, 1.5)]) == 5


def test_what_is_timed_is_the_same_work() -> None:
    """`timed` itself raises where workers say something else than the loop."""
    found = timed(histories_of(purchases())[:50], 20, workers=(1,))
    assert [*found.flows] == [1]
    assert min(found.us, found.loop, found.flows[1]) > 0
    assert found._replace(loop=3.0, flows={1: 1.5}).speed_up(1) == 2
