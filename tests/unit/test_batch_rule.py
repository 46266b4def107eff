"""Dynamic batches: when they go, and the size that is found for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from mlports.core.batching import MOST_IN_BATCH, AutoSize, BatchRule

MS = 0.001  # seconds


@pytest.mark.parametrize(
    ("waiting", "idle", "now", "taken"),
    [
        (1, True, 0.0, 1),  # a lone caller never waits while a replica is idle
        (7, True, 0.0, 7),
        (20, True, 0.0, 8),
        (1, False, 0.0, 0),
        (7, False, 1.9 * MS, 0),
        (7, False, 2 * MS, 7),
        (8, False, 0.0, 8),
        (20, False, 0.0, 8),
        (20, False, 1.0, 8),
        (0, True, 1.0, 0),
        (0, False, 1.0, 0),
    ],
)
def test_what_goes_out_now(waiting: int, idle: bool, now: float, taken: int) -> None:
    assert BatchRule(8, 2 * MS).take(waiting, 0.0, idle, now) == taken


@pytest.mark.parametrize("oldest", [0.0, 0.1, 12345.678, 1e9 + 0.3])
def test_what_is_due_goes(oldest: float) -> None:
    rule = BatchRule(8, 2 * MS)
    assert rule.take(1, oldest, False, rule.due(oldest)) == 1
    assert rule.take(1, oldest, False, math.nextafter(rule.due(oldest), 0.0)) == 0


def test_without_a_wait_nothing_waits() -> None:
    assert BatchRule(8, 0.0).take(3, 5.0, False, 5.0) == 3


@pytest.mark.parametrize(("size", "wait"), [(0, 0.0), (-1, 0.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_a_rule_that_makes_no_sense(size: int, wait: float) -> None:
    with pytest.raises(ValueError, match=r"at least 1|from 0 up"):
        BatchRule(size, wait)


def test_a_chosen_size_stays_whatever_is_measured() -> None:
    rule = BatchRule(8, 0.0)
    for _ in range(50):
        rule.answered(8, 10.0)
    assert rule.size == 8


@pytest.mark.parametrize(("size", "refused", "then"), [(64, 64, 32), (64, 40, 20), (64, 1, 64), (2, 2, 1)])
def test_a_batch_that_fits_no_frame_halves_a_chosen_size(size: int, refused: int, then: int) -> None:
    rule = BatchRule(size, 0.0)
    rule.refused(refused)
    rule.refused(max(1, refused // 4))  # far below the bound that is known already, or 1
    assert rule.size <= then
    assert rule.size >= 1
    again = BatchRule(size, 0.0)
    again.refused(refused)
    assert again.size == then


Curve = Callable[[int], float]

CURVES: dict[str, Curve] = {
    "a GPU: a constant and a little for each": lambda n: 10 * MS + 0.1 * MS * n,
    "a constant and much for each": lambda n: 5 * MS + 2 * MS * n,
    "quick, vectorised": lambda n: 0.2 * MS + 0.001 * MS * n,
    "purely linear": lambda n: 3 * MS * n,
    "purely linear, quick": lambda n: 0.01 * MS * n,
    "steps of 32": lambda n: 10 * MS * math.ceil(n / 32),
    "steps of 48": lambda n: 4 * MS * math.ceil(n / 48),
    "steps of 60": lambda n: 4 * MS * math.ceil(n / 60),
    "no more than a constant": lambda n: 8 * MS,
    "worse past 100: it swaps": lambda n: 5 * MS + 0.1 * MS * n + (0.01 * MS * (n - 100) ** 2 if n > 100 else 0),
    "no time at all": lambda n: 0.0,
}


def run(auto: AutoSize | BatchRule, curve: Curve, batches: int, noise: float = 0.0, seed: int = 0) -> None:
    """Always full batches, as under a load that never ends, each up to `noise` times slower by chance."""
    random = Random(seed)
    for _ in range(batches):
        size = auto.size
        assert 1 <= size <= MOST_IN_BATCH
        auto.answered(size, curve(size) * random.lognormvariate(0, noise))


def best(curve: Curve) -> float:
    """The most calls a second of all sizes whose latency is within the bound."""
    bound = max(20 * MS, 10 * curve(1))
    return max(n / curve(n) for n in range(1, MOST_IN_BATCH + 1) if curve(n) <= bound)


@pytest.mark.parametrize("name", [name for name in CURVES if name != "no time at all"])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_knee_is_found(name: str, noise: float) -> None:
    """After some tens of batches there is half of the best throughput, with all that looking at other sizes costs."""
    curve = CURVES[name]
    for seed in range(4):
        auto, calls, seconds, long = AutoSize(), 0, 0.0, 0
        run(auto, curve, 60, noise, seed)
        for step in range(600):
            calls += auto.size
            seconds += curve(auto.size)
            long += curve(auto.size) > 1.5 * max(20 * MS, 10 * curve(1))
            run(auto, curve, 1, noise, 1000 * seed + step)
        assert calls / seconds >= best(curve) / 2
        assert long <= 30


def test_a_batch_that_takes_no_time_may_be_as_large_as_any() -> None:
    auto = AutoSize()
    run(auto, CURVES["no time at all"], 100)
    assert auto.size == 4096


def test_the_largest_size_is_reached_within_some_tens_of_batches() -> None:
    auto = AutoSize()
    run(auto, CURVES["no more than a constant"], 40)
    assert auto.size == 4096


def test_what_takes_long_for_each_goes_alone() -> None:
    auto = AutoSize()
    run(auto, lambda n: 3 * MS * n, 30)
    assert auto.size == 1


def test_what_is_quick_goes_together_though_it_takes_as_long_for_each() -> None:
    """The frame around a batch costs something too."""
    auto = AutoSize()
    run(auto, lambda n: 0.01 * MS * n, 60)
    assert 32 <= auto.size <= 128


def test_what_no_longer_pays_is_given_up() -> None:
    """Full batches take as long as before, but small ones no longer do."""
    auto = AutoSize()
    run(auto, lambda n: 10 * MS + 0.1 * MS * n, 150)
    size = auto.size
    assert size >= 256
    run(auto, lambda n: (10 * MS + 0.1 * MS * size) * n / size, 1500)
    assert auto.size <= 32


def test_a_machine_that_is_slower_for_good_is_measured_by_its_own_single_calls() -> None:
    auto, sizes = AutoSize(), []
    run(auto, lambda n: 10 * MS + 0.1 * MS * n, 150)
    size = auto.size
    for _ in range(60):
        run(auto, lambda n: 50 * MS + 0.5 * MS * n, 1)
        sizes.append(auto.size)
    assert 1 in sizes
    assert set(sizes[30:]) == {size}


def test_a_latency_out_of_all_proportion_is_not_accepted_for_throughput() -> None:
    """With 15 % more a second for each doubling the largest would be best, at 4096 calls in 8 s instead of 10 ms."""
    auto = AutoSize()
    sizes = []
    for _ in range(1000):
        run(auto, lambda n: 10 * MS * n**0.8, 1)
        sizes.append(auto.size)
    assert 8 <= sorted(sizes)[500] <= 16
    assert max(sizes) <= 32


def test_a_worker_that_becomes_slower_for_each_gets_smaller_batches() -> None:
    auto = AutoSize()
    run(auto, lambda n: 10 * MS, 200)
    assert auto.size >= 1024
    run(auto, lambda n: 5 * MS * n, 1500)
    assert auto.size <= 4


def test_a_worker_that_becomes_faster_gets_larger_ones() -> None:
    auto = AutoSize()
    run(auto, lambda n: 3 * MS * n, 200)
    assert auto.size <= 2
    run(auto, lambda n: 3 * MS, 1500)
    assert auto.size >= 1024


def test_a_machine_that_is_slower_for_a_while_costs_nothing_for_good() -> None:
    auto = AutoSize()
    run(auto, lambda n: 10 * MS + 0.1 * MS * n, 300)
    run(auto, lambda n: 50 * MS + 0.5 * MS * n, 30)
    run(auto, lambda n: 10 * MS + 0.1 * MS * n, 1200)
    assert auto.size >= 256


def test_first_batches_that_compile_do_not_spoil_it() -> None:
    """The first batch of each size takes a second more."""
    auto, met = AutoSize(), set[int]()
    for _ in range(150):
        size = auto.size
        auto.answered(size, 10 * MS + (0 if size in met else 1.0))
        met.add(size)
    assert auto.size >= 1024


def test_few_callers_do_not_make_batches_small() -> None:
    """50 callers never fill a batch of 64, and 32 of them would leave 18 for the next."""
    auto = AutoSize()
    for _ in range(1000):
        auto.answered(min(50, auto.size), 10 * MS)
    assert auto.size >= 64


def test_a_crowd_after_a_long_quiet_time_finds_its_size_as_fast() -> None:
    auto = AutoSize()
    for _ in range(10_000):
        auto.answered(1, 10 * MS)
    run(auto, lambda n: 10 * MS, 60)
    assert auto.size >= 1024


@pytest.mark.parametrize(("count", "seconds"), [(0, 1.0), (-5, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_a_measurement_that_makes_no_sense_says_nothing(count: int, seconds: float) -> None:
    auto = AutoSize()
    for _ in range(20):
        auto.answered(count, seconds)
    assert auto.size == 1


def test_a_batch_that_fits_no_frame_is_never_tried_again() -> None:
    rule = BatchRule(None, 0.0)
    run(rule, lambda n: 10 * MS, 100)
    rule.refused(1000)
    assert rule.size <= 512
    for _ in range(2000):
        assert rule.size <= 512
        rule.answered(rule.size, 10 * MS)
    rule.refused(1)
    assert rule.size == 1
