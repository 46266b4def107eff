"""Who waits before whom, who gives way when the queue is full, and when to come again.

The rules
- A higher priority goes first. Within a priority the tags take turns, one item each; within a tag it is first in, first
  out.
- A tag that had nothing waiting takes its turn after all that have, so none gets ahead by coming and going.
- An item that comes back, because it was taken for nothing, is the next of its priority again: who takes some and puts
  them back in reverse has the queue as it was.
- Into a full queue an item comes only in the place of another: of the newest one of the lowest priority, if that is
  below its own, else of the newest one of a tag that has at least two more waiting than its own.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_UNKNOWN = 0.05  # seconds
_SOONEST, _LATEST = 0.001, 60.0  # seconds


class FairQueue(Generic[T]):
    """Items that wait, by priority and tag; a `deque` to those that only append, take, put back and look.

    `rank` gives the priority and the tag of an item, which may not change while it waits. Items are told apart by
    identity. All is O(1), but for `victim` and a new priority, which are O(tags) and O(priorities), and `remove`, which
    is O(newer items of the tag). Tags and priorities of which nothing waits take no memory. As with a `deque`, nothing
    may be added or taken while it is gone through.
    """

    __slots__ = ("_count", "_levels", "_priorities", "_rank")

    def __init__(self, rank: Callable[[T], tuple[int, str]], items: Iterable[T] = ()) -> None:
        self._rank = rank
        self._levels: dict[int, OrderedDict[str, deque[T]]] = {}  # the tags stand in the order of their turns
        self._priorities: list[int] = []  # those of which some wait, lowest first
        self._count = 0
        self.extend(items)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All items, in the order in which `popleft` would give them; takes none."""
        for priority in reversed(self._priorities):
            turns = deque(iter(items) for items in self._levels[priority].values())
            while turns:
                items = turns.popleft()
                for item in items:
                    yield item
                    turns.append(items)
                    break

    def __getitem__(self, index: int) -> T:
        """`queue[0]` is what `popleft` gives next. Raises `IndexError` if there is none, and for any other index."""
        if index != 0:
            raise IndexError(f"only the first item of a FairQueue can be looked at, not number {index}")
        if not self._count:
            raise IndexError("the queue is empty")
        for items in self._levels[self._priorities[-1]].values():
            return items[0]
        raise AssertionError("a priority without items was kept")

    def __iadd__(self, items: Iterable[T]) -> FairQueue[T]:
        self.extend(items)
        return self

    def append(self, item: T) -> None:
        """Puts `item` behind all others of its priority and tag."""
        priority, tag = self._rank(item)
        level = self._level(priority)
        items = level.get(tag)
        if items is None:
            level[tag] = deque((item,))
        else:
            items.append(item)
        self._count += 1

    def appendleft(self, item: T) -> None:
        """Puts `item`, which was taken, before all others of its priority: its tag has the next turn."""
        priority, tag = self._rank(item)
        level = self._level(priority)
        items = level.get(tag)
        if items is None:
            level[tag] = deque((item,))
        else:
            items.appendleft(item)
        level.move_to_end(tag, last=False)
        self._count += 1

    def extend(self, items: Iterable[T]) -> None:
        """Appends each of them."""
        for item in items:
            self.append(item)

    def popleft(self) -> T:
        """Takes the next item. Raises `IndexError` if there is none."""
        if not self._count:
            raise IndexError("the queue is empty")
        priority = self._priorities[-1]
        level = self._levels[priority]
        tag, items = level.popitem(last=False)
        item = items.popleft()
        if items:
            level[tag] = items  # behind the others: it had its turn
        elif not level:
            self._forget(priority)
        self._count -= 1
        return item

    def clear(self) -> None:
        """Takes all items out."""
        self._levels.clear()
        self._priorities.clear()
        self._count = 0

    def remove(self, item: T) -> None:
        """Takes `item` out. Raises `ValueError` if it does not wait here."""
        priority, tag = self._rank(item)
        level = self._levels.get(priority)
        items = level.get(tag) if level else None
        for newer, waiting in enumerate(reversed(items or ())):
            if waiting is item:
                self._take_out(priority, tag, newer)
                return
        raise ValueError(f"the item does not wait here: nothing of priority {priority} and tag {tag!r} is it")

    def discard_done(self, is_done: Callable[[T], bool]) -> int:
        """Takes out the items for which `is_done` is true; the others keep their order. How many it took."""
        before = self._count
        for priority, level in list(self._levels.items()):
            for tag, items in list(level.items()):
                live = deque(item for item in items if not is_done(item))
                self._count -= len(items) - len(live)
                if live:
                    level[tag] = live
                else:
                    del level[tag]
            if not level:
                self._forget(priority)
        return before - self._count

    def victim(self, newcomer: T) -> T | None:
        """Which item gives way to `newcomer` when the queue is full; None: it is the newcomer that cannot come in.

        The item is not taken out. Of tags with equally many, the one whose turn is last gives way.
        """
        if not self._count:
            return None
        priority, tag = self._rank(newcomer)
        lowest = self._priorities[0]
        if lowest > priority:
            return None
        level = self._levels[lowest]
        longest = max(reversed(level.values()), key=len)
        if lowest == priority and len(longest) < len(level.get(tag, ())) + 2:
            return None
        return longest[-1]

    @property
    def lowest(self) -> int | None:
        """The lowest priority of which some wait."""
        return self._priorities[0] if self._priorities else None

    def counts(self, priority: int) -> dict[str, int]:
        """How many of a priority wait, by tag; the tag whose turn is next comes first."""
        return {tag: len(items) for tag, items in self._levels.get(priority, {}).items()}

    def newest(self, priority: int, tag: str) -> T:
        """The item that came last, of those of a priority and tag. Raises `KeyError` when there is none."""
        return self._levels[priority][tag][-1]

    def _level(self, priority: int) -> OrderedDict[str, deque[T]]:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = OrderedDict()
            insort(self._priorities, priority)
        return level

    def _take_out(self, priority: int, tag: str, newer: int) -> None:
        level = self._levels[priority]
        items = level[tag]
        del items[-1 - newer]
        if not items:
            del level[tag]
            if not level:
                self._forget(priority)
        self._count -= 1

    def _forget(self, priority: int) -> None:
        del self._levels[priority]
        self._priorities.remove(priority)


def retry_after(waiting: int, pace: float | None, replicas: int) -> float:
    """Seconds until a full queue, in which `waiting` calls are, has room again, by estimate: from 0.001 to 60.

    That is when half of them are done, by `replicas` that answer a call in `pace` seconds each; 0.05 s if the pace is
    not known. No replica counts as one.
    """
    if pace is None:
        return _UNKNOWN
    return max(_SOONEST, min(waiting / 2 * pace / max(1, replicas), _LATEST))
