"""Who is to blame for a worker's death."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection
from random import Random

import pytest

from mlports.core.bisection import Again, Guilty, NotSuspect, Split, Suspicion, after_death


def test_a_lone_call_that_dies_for_the_first_time_is_no_suspect() -> None:
    assert after_death(1, None, True, False) == NotSuspect()
    assert after_death(1, None, False, True) == NotSuspect()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("from_outside", [True, False])
@pytest.mark.parametrize("known", [None, Suspicion(2, 9)])
@pytest.mark.parametrize(("count", "sizes"), [(2, (1, 1)), (3, (2, 1)), (64, (32, 32)), (65, (33, 32))])
def test_a_group_is_cut_in_halves(
    count: int, sizes: tuple[int, int], known: Suspicion | None, alone: bool, from_outside: bool
) -> None:
    deaths = 3 if known else 1
    kills = (0 if known is None else known.kills) + from_outside
    assert after_death(count, known, alone, from_outside) == Split(sizes, Suspicion(deaths, count, kills))


def test_a_suspect_that_kills_its_worker_alone_is_guilty() -> None:
    assert after_death(1, Suspicion(1, 2), True, False) == Guilty()


def test_a_suspect_in_company_is_tried_again() -> None:
    assert after_death(1, Suspicion(1, 2), False, False) == Again(Suspicion(2, 1))
    assert after_death(1, Suspicion(9, 1), False, True) == Again(Suspicion(10, 1, 1))


def test_a_kill_from_outside_blames_nobody_before_the_third() -> None:
    first = after_death(1, Suspicion(8, 2), True, True)
    assert first == Again(Suspicion(9, 1, 1))
    second = after_death(1, first.suspicion, True, True)
    assert second == Again(Suspicion(10, 1, 2))
    assert after_death(1, second.suspicion, False, True) == Again(Suspicion(11, 1, 3))
    assert after_death(1, second.suspicion, True, True) == Guilty()
    assert after_death(1, first.suspicion, True, False) == Guilty()


@pytest.mark.parametrize("count", [0, -1])
def test_a_request_without_calls(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        after_death(count, None, True, False)


class Trial:
    """A service whose worker dies when it works on a call of `poison`; a suspicious group is sent alone."""

    def __init__(self, count: int, poison: Collection[int], killed: Callable[[], bool] = lambda: False) -> None:
        self.results: list[int] = []
        self.guilty: list[int] = []
        self.deaths = 0
        self.hits: dict[int, int] = {}  # kills from outside that a call was in
        groups: deque[tuple[range, Suspicion | None]] = deque([(range(count), None)])
        while groups:
            group, suspicion = groups.popleft()
            outside = killed()
            if not outside and not any(call in poison for call in group):
                self.results += group
                continue
            self.deaths += 1
            if outside:
                for call in group:
                    self.hits[call] = self.hits.get(call, 0) + 1
            match after_death(len(group), suspicion, True, outside):
                case Split((first, second), suspicion):
                    assert first + second == len(group)
                    groups.append((group[:first], suspicion))
                    groups.append((group[first:], suspicion))
                case Again(suspicion):
                    groups.append((group, suspicion))
                case Guilty():
                    self.guilty += group
                case NotSuspect():  # by the ordinary rules: here it is tried once more, as a suspect
                    groups.append((group, Suspicion(1, 1)))


@pytest.mark.parametrize("count", range(1, 301))
def test_one_guilty_call_is_found(count: int) -> None:
    for bad in {0, count // 3, count // 2, count - 1}:
        trial = Trial(count, {bad})
        assert trial.guilty == [bad]
        assert sorted(trial.results) == [call for call in range(count) if call != bad]
        assert trial.deaths <= math.ceil(math.log2(count)) + 1 or count == trial.deaths - 1 == 1


def test_wherever_it_stands() -> None:
    for count in (2, 7, 64, 65, 100):
        for bad in range(count):
            trial = Trial(count, {bad})
            assert trial.guilty == [bad]
            assert trial.deaths <= math.ceil(math.log2(count)) + 1


@pytest.mark.parametrize("count", range(2, 301, 7))
def test_several_guilty_calls_are_found(count: int) -> None:
    random = Random(count)
    for some in (0, 1, 2, 3, 10, count):
        poison = set(random.sample(range(count), min(some, count)))
        trial = Trial(count, poison)
        assert set(trial.guilty) == poison
        assert len(trial.guilty) == len(poison)
        assert sorted(trial.results) == sorted(set(range(count)) - poison)
        assert trial.deaths <= len(poison) * (math.ceil(math.log2(count)) + 1)


@pytest.mark.parametrize("chance", [0.02, 0.1, 0.4])
def test_kills_from_outside_blame_no_innocent(chance: float) -> None:
    random = Random(1)
    blamed = 0
    for _ in range(150):
        count = random.randint(2, 120)
        poison = set(random.sample(range(count), random.randint(0, 2)))
        trial = Trial(count, poison, lambda: random.random() < chance)
        wrong = [call for call in trial.guilty if call not in poison]
        assert poison <= set(trial.guilty)
        assert all(trial.hits[call] >= 3 for call in wrong)
        assert sorted(trial.results + trial.guilty) == list(range(count))
        blamed += len(wrong)
    if chance < 0.1:
        assert not blamed


@pytest.mark.parametrize(("count", "expected"), [(2, 3), (3, 3), (4, 3), (5, 4), (64, 7), (100, 8)])
def test_a_call_that_ends_its_worker_as_people_would_is_found(count: int, expected: int) -> None:
    """The kernel kills so too, when memory is short."""
    suspicion, deaths, judgement = None, 0, None
    while judgement != Guilty():
        deaths += 1
        judgement = after_death(count, suspicion, True, True)
        if isinstance(judgement, Split):
            count = judgement.sizes[0]
        if not isinstance(judgement, Guilty | NotSuspect):
            suspicion = judgement.suspicion
    assert deaths == expected
