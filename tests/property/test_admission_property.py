"""The fair queue against a plain one that does the same slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.admission import FairQueue


class Item:
    """One that waits."""

    def __init__(self, priority: int, tag: str) -> None:
        self.priority = priority
        self.tag = tag

    def __repr__(self) -> str:
        return f"{self.tag}/{self.priority}"


def rank(item: Item) -> tuple[int, str]:
    return item.priority, item.tag


class Plain:
    """A list of items, oldest first, and a list of the turns of each priority."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.turns: dict[int, list[str]] = {}

    def append(self, item: Item) -> None:
        turns = self.turns.setdefault(item.priority, [])
        if item.tag not in turns:
            turns.append(item.tag)
        self.items.append(item)

    def appendleft(self, item: Item) -> None:
        turns = self.turns.setdefault(item.priority, [])
        if item.tag in turns:
            turns.remove(item.tag)
        turns.insert(0, item.tag)
        self.items.insert(0, item)

    def take(self, item: Item) -> None:
        self.items.remove(item)
        if not any(rank(other) == rank(item) for other in self.items):
            self.turns[item.priority].remove(item.tag)

    def popleft(self) -> Item:
        priority = max(item.priority for item in self.items)
        tag = self.turns[priority][0]
        item = next(item for item in self.items if rank(item) == (priority, tag))
        self.turns[priority].append(self.turns[priority].pop(0))
        self.take(item)
        return item

    def waiting(self, priority: int, tag: str) -> int:
        return sum(rank(item) == (priority, tag) for item in self.items)


ITEMS = st.builds(Item, st.integers(-1, 1), st.sampled_from("abc"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ITEMS),
        st.tuples(st.just("popleft"), st.none()),
        st.tuples(st.just("back"), st.none()),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("discard"), st.sampled_from("abc")),
        st.tuples(st.just("displace"), ITEMS),
    ),
    max_size=60,
)


def _displace(queue: FairQueue[Item], plain: Plain, newcomer: Item) -> None:
    """`newcomer` comes into a full queue, if anybody gives way."""
    victim = queue.victim(newcomer)
    lowest = min((item.priority for item in plain.items), default=None)
    if lowest is None or lowest > newcomer.priority:
        assert victim is None
        return
    most = max(plain.waiting(lowest, tag) for tag in plain.turns[lowest])
    if lowest == newcomer.priority and most < plain.waiting(lowest, newcomer.tag) + 2:
        assert victim is None
        return
    assert victim is not None
    assert victim.priority == lowest
    assert plain.waiting(*rank(victim)) == most
    assert victim is [item for item in plain.items if rank(item) == rank(victim)][-1]
    queue.remove(victim)
    plain.take(victim)
    queue.append(newcomer)
    plain.append(newcomer)


@given(STEPS)
def test_it_gives_what_the_rules_say(steps: list[tuple[str, object]]) -> None:
    queue: FairQueue[Item] = FairQueue(rank)
    plain = Plain()
    last: list[Item] = []
    for step, what in steps:
        if step == "append":
            assert isinstance(what, Item)
            queue.append(what)
            plain.append(what)
        elif step == "displace":
            assert isinstance(what, Item)
            _displace(queue, plain, what)
        elif step == "discard":
            gone = [item for item in plain.items if item.tag == what]
            assert queue.discard_done(lambda item, tag=what: item.tag == tag) == len(gone)  # type: ignore[misc]
            for item in gone:
                plain.take(item)
        elif step == "back" and last:
            item = last.pop()
            queue.appendleft(item)
            plain.appendleft(item)
        elif step == "remove" and plain.items:
            assert isinstance(what, int)
            item = plain.items[what % len(plain.items)]
            queue.remove(item)
            plain.take(item)
        elif step == "popleft" and plain.items:
            last.append(plain.popleft())
            assert queue[0] is last[-1]
            assert queue.popleft() is last[-1]
        assert len(queue) == len(plain.items) == len(list(queue))
        assert bool(queue) == bool(plain.items)
    expected = [plain.popleft() for _ in range(len(plain.items))]
    assert list(queue) == expected
    assert [queue.popleft() for _ in expected] == expected


@given(st.lists(ITEMS, max_size=20), st.integers(0, 20))
def test_what_was_taken_and_is_put_back_in_reverse_leaves_no_trace(items: list[Item], count: int) -> None:
    queue = FairQueue(rank, items)
    before = list(queue)
    taken = [queue.popleft() for _ in range(min(count, len(items)))]
    for item in reversed(taken):
        queue.appendleft(item)
    assert list(queue) == before


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_between_two_turns_of_a_tag_every_other_that_waits_has_one(tags: list[str]) -> None:
    queue = FairQueue(rank, [Item(0, tag) for tag in tags])
    given_tags = [item.tag for item in queue]
    for start, tag in enumerate(given_tags):
        rest = given_tags[start + 1 :]
        if tag in rest:
            between = rest[: rest.index(tag)]
            assert sorted(between) == sorted(set(rest) - {tag})
