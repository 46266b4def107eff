"""Who waits before whom, who gives way in a full queue, and when to come again."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from mlports.core.admission import FairQueue, retry_after


class Item(NamedTuple):
    """One that waits: its name says its tag and its number."""

    name: str
    priority: int = 0

    @property
    def tag(self) -> str:
        return self.name[0]


def rank(item: Item) -> tuple[int, str]:
    return item.priority, item.tag


def queue_of(names: str, priority: int = 0) -> FairQueue[Item]:
    return FairQueue(rank, [Item(name, priority) for name in names.split()])


def taken(queue: FairQueue[Item]) -> str:
    """All that waits, in the order in which it is given."""
    return " ".join(queue.popleft().name for _ in range(len(queue)))


@pytest.mark.parametrize(
    ("came", "given"),
    [
        ("", ""),
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1 b2 c1", "a1 b1 c1 a2 b2 a3"),
        ("b1 a1 b2 a2", "b1 a1 b2 a2"),
    ],
)
def test_tags_take_turns_and_each_is_first_in_first_out(came: str, given: str) -> None:
    queue = queue_of(came)
    assert " ".join(item.name for item in queue) == given
    assert len(queue) == len(came.split())
    assert taken(queue) == given
    assert not queue


def test_a_higher_priority_goes_first_and_negative_ones_last() -> None:
    queue = queue_of("a1 b1")
    queue.append(Item("a2", 5))
    queue.append(Item("c1", -1))
    queue += [Item("b2", 5)]
    assert [item.name for item in queue] == ["a2", "b2", "a1", "b1", "c1"]
    assert taken(queue) == "a2 b2 a1 b1 c1"


def test_a_tag_that_comes_and_goes_gets_no_more_than_its_turns() -> None:
    queue = queue_of("a1 a2 a3 b1 b2 b3")
    given = []
    for number in range(1, 4):  # it always comes again the moment its only item is taken
        queue.append(Item(f"c{number}"))
        while (item := queue.popleft()).tag != "c":
            given.append(item.name)
        given.append(item.name)
    assert given == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]


def test_what_was_taken_and_comes_back_is_next() -> None:
    queue = queue_of("a1 a2 b1")
    first, second = queue.popleft(), queue.popleft()
    queue.appendleft(second)
    queue.appendleft(first)
    assert taken(queue) == "a1 b1 a2"


def test_one_that_comes_back_is_not_before_a_higher_priority() -> None:
    queue = queue_of("a1 b1")
    first = queue.popleft()
    queue.append(Item("c1", 1))
    queue.appendleft(first)
    assert taken(queue) == "c1 a1 b1"


def test_only_the_first_can_be_looked_at() -> None:
    queue = queue_of("a1 b1")
    assert queue[0].name == "a1"
    assert queue.popleft().name == "a1"
    assert queue[0].name == "b1"
    with pytest.raises(IndexError, match="only the first item"):
        queue[1]


def test_an_empty_queue_gives_nothing() -> None:
    queue = queue_of("a1")
    queue.clear()
    assert not queue
    assert list(queue) == []
    assert queue.victim(Item("a2")) is None
    with pytest.raises(IndexError, match="empty"):
        queue.popleft()
    with pytest.raises(IndexError, match="empty"):
        queue[0]
    queue.append(Item("b1"))
    assert taken(queue) == "b1"


def test_those_that_are_done_are_taken_out_and_the_others_keep_their_turns() -> None:
    queue = queue_of("a1 a2 b1 c1 c2")
    queue.append(Item("d1", 3))
    assert queue.discard_done(lambda item: item.name in {"a1", "b1", "d1"}) == 3
    assert len(queue) == 3
    assert taken(queue) == "a2 c1 c2"
    assert queue.discard_done(lambda item: True) == 0


def test_an_item_is_taken_out_by_identity() -> None:
    first, second = Item("a1"), Item("a1")
    queue = FairQueue(rank, [first, second, Item("b1")])
    queue.remove(second)
    assert next(iter(queue)) is first
    assert taken(queue) == "a1 b1"
    for missing in (first, Item("z1"), Item("a1", 7)):
        with pytest.raises(ValueError, match="does not wait here"):
            queue.remove(missing)


@pytest.mark.parametrize(
    ("low", "high", "newcomer", "gives_way"),
    [
        ("a1 a2 b1", "", Item("c1", 1), "a2"),  # of the lowest priority, of the tag that has most, the newest
        ("a1 b1", "", Item("c1", 1), "b1"),  # of equals the one whose turn is last
        ("a1", "b1 b2 b3", Item("c1", 5), "a1"),
        ("a1", "b1 b2 b3", Item("b4", 5), "a1"),  # no matter how many its own tag has
        ("", "b1 b2", Item("a1", 0), None),  # a lower priority takes nobody's place
        ("a1 a2", "", Item("b1"), "a2"),
        ("a1", "", Item("b1"), None),  # it would only be the other way round
        ("a1 a2 b1", "", Item("b2"), None),
        ("a1 a2 a3 b1", "", Item("b2"), "a3"),
        ("a1 a2 a3", "", Item("a4"), None),
    ],
)
def test_who_gives_way(low: str, high: str, newcomer: Item, gives_way: str | None) -> None:
    queue = queue_of(low)
    queue += [Item(name, 5) for name in high.split()]
    victim = queue.victim(newcomer)
    assert (victim and victim.name) == gives_way
    assert len(queue) == len((low + " " + high).split())
    if victim:
        queue.remove(victim)
        assert victim not in list(queue)


def test_one_that_crowds_a_full_queue_makes_room_until_all_have_their_share() -> None:
    queue = queue_of(" ".join(f"a{number}" for number in range(12)))
    for number in range(20):
        for tag in "bc":
            newcomer = Item(f"{tag}{number}")
            if victim := queue.victim(newcomer):
                queue.remove(victim)
                queue.append(newcomer)
    assert sorted(item.tag for item in queue) == sorted("aaaabbbbcccc")


def _size(queue: FairQueue[tuple[int, str]]) -> int:
    return sum(sys.getsizeof(part) for part in (queue._levels, queue._priorities))


def test_tags_and_priorities_that_are_gone_take_no_memory() -> None:
    queue: FairQueue[tuple[int, str]] = FairQueue(lambda item: item)
    for number in range(10_000):
        queue.append((number, f"tag {number}"))
        queue.popleft()
        queue.append((0, f"tag {number}"))
        if number % 2:
            queue.remove(queue[0])
        else:
            queue.discard_done(lambda item: True)
    assert not queue._levels
    assert not queue._priorities
    queue.append((0, "a"))
    assert _size(queue) < 2000


@pytest.mark.parametrize(
    ("waiting", "pace", "replicas", "seconds"),
    [
        (1000, None, 4, 0.05),
        (1000, 0.01, 1, 5.0),
        (1000, 0.01, 4, 1.25),
        (1000, 0.01, 0, 5.0),
        (1, 0.0001, 8, 0.001),
        (0, 1.0, 1, 0.001),
        (1000, 0.0, 1, 0.001),
        (1024, 3.0, 1, 60.0),
    ],
)
def test_when_to_come_again(waiting: int, pace: float | None, replicas: int, seconds: float) -> None:
    assert retry_after(waiting, pace, replicas) == pytest.approx(seconds)
