"""The calls of a service that wait, in lines: what stands in one line waits for the same thing.

- main: for any replica, one request after the other
- a group: for company; the calls of one batch method that may share a batch
- a lane's: for that replica and no other; by their key, or as the copies of a broadcast
- suspects: for a replica that has nothing else to do; one of them may have killed a worker
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from mlports.core.admission import FairQueue

if TYPE_CHECKING:
    from mlports.core.batching import BatchRule
    from mlports.core.bisection import Suspicion
    from mlports.runtime.call import Call
    from mlports.runtime.lane import Lane

_NEVER = float("inf")


class Line:
    """One line. `lane` is the only one that may serve it; `rule` says how many of it go out together, and when.

    `isolated`: its calls go out together, to a replica that has nothing else; `suspicion` is what is held against them.
    `oldest` is since when the first of them waits, in monotonic seconds, and is kept only where there is a rule.
    """

    __slots__ = ("calls", "isolated", "key", "lane", "listed", "oldest", "rule", "suspicion")

    def __init__(
        self,
        *,
        lane: Lane | None = None,
        rule: BatchRule | None = None,
        key: Hashable = None,
        isolated: bool = False,
        suspicion: Suspicion | None = None,
    ) -> None:
        self.calls: deque[Call] | FairQueue[Call] = deque()
        self.lane = lane
        self.rule = rule
        self.key = key
        self.isolated = isolated
        self.suspicion = suspicion
        self.oldest = _NEVER
        self.listed = False


class Waiting:
    """All lines of a service. `held` counts the calls in all of them but the main one, those given up included."""

    __slots__ = ("busy", "gaps", "groups", "held", "main", "ranked")

    def __init__(self) -> None:
        self.main = Line()
        self.busy: deque[Line] = deque()  # lines that may have calls, by turns; not the main one while it is alone
        self.groups: dict[Hashable, Line] = {}
        self.held = 0
        self.gaps = False  # among the calls are some that were given up
        self.ranked = False  # somebody uses priorities or tags

    def __len__(self) -> int:
        return len(self.main.calls) + self.held

    def __iter__(self) -> Iterator[Call]:
        yield from self.main.calls
        for line in self.busy:
            if line is not self.main:
                yield from line.calls

    def group(self, key: Hashable, rule: BatchRule, lane: Lane | None) -> Line:
        """The group of this key, a new one if there is none."""
        return self.groups.get(key) or Line(lane=lane, rule=rule, key=key)

    def add(self, line: Line, call: Call) -> None:
        """Puts a call at the end of a line."""
        if self.ranked and type(line.calls) is deque:
            line.calls = FairQueue(_rank, line.calls)
        line.calls.append(call)
        if line is not self.main:
            self.held += 1
            self._list(line)

    def put_back(self, line: Line, call: Call) -> None:
        """Puts a call that was sent before in front of a line."""
        if self.ranked and type(line.calls) is deque:
            line.calls = FairQueue(_rank, line.calls)
        line.calls.appendleft(call)
        if line is not self.main:
            self.held += 1
            self._list(line)

    def isolate(self, line: Line) -> None:
        """A line of calls that are to be alone, which comes before all others."""
        self.held += len(line.calls)
        line.listed = True
        self.busy.appendleft(line)

    def pop(self, line: Line) -> Call:
        """Takes the first call out of a line."""
        if line is not self.main:
            self.held -= 1
        return line.calls.popleft()

    def drop_done(self, line: Line) -> None:
        """Takes out those at the head of a line that were given up."""
        calls = line.calls
        while calls and calls[0].done():
            self.pop(line)

    def next_line(self) -> Line | None:
        """The line whose turn it is, of those that have calls; it is then the last."""
        busy, main = self.busy, self.main
        if main.calls and not main.listed:
            self._list(main)
        while busy:
            line = busy[0]
            if line.calls:
                busy.rotate(-1)
                return line
            busy.popleft()
            line.listed = False
            if line.key is not None and self.groups.get(line.key) is line:
                del self.groups[line.key]
        return None

    def rank(self) -> None:
        """From now on by priorities and tags."""
        self.ranked = True
        for line in (self.main, *self.busy):
            if type(line.calls) is deque and not line.isolated:
                line.calls = FairQueue(_rank, line.calls)

    def make_room(self, newcomer: Call) -> Call | None:
        """Takes out the call that is to give way for the newcomer, if there is one, in whichever line it waits.

        Which one that is, `FairQueue.victim` says: here of all lines together, but for those of suspects.
        """
        queues = [(line, line.calls) for line in self.lines() if isinstance(line.calls, FairQueue) and line.calls]
        priority, tag = _rank(newcomer)
        lowest = min((queue.lowest for _, queue in queues if queue.lowest is not None), default=None)
        if lowest is None or lowest > priority:
            return None
        counts: Counter[str] = Counter()
        for _, queue in queues:
            counts.update(queue.counts(lowest))
        longest = max(reversed(counts), key=counts.__getitem__)
        if lowest == priority and counts[longest] < counts[tag] + 2:
            return None
        line, queue = max(queues, key=lambda each: each[1].counts(lowest).get(longest, 0))
        victim = queue.newest(lowest, longest)
        queue.remove(victim)
        if line is not self.main:
            self.held -= 1
        return victim

    def close_gaps(self) -> None:
        """Takes out all that were given up, but for suspects: whoever serves their line sees to its replica too."""
        self.gaps = False
        for line in self.lines():
            if line.isolated:
                continue
            live = [call for call in line.calls if not call.done()]
            if line is not self.main:
                self.held -= len(line.calls) - len(live)
            line.calls.clear()
            line.calls.extend(live)

    def take_all(self, line: Line) -> list[Call]:
        """Empties a line; gives those of its calls that were not given up."""
        calls = list(line.calls)
        line.calls.clear()
        if line is not self.main:
            self.held -= len(calls)
        return [call for call in calls if not call.done()]

    def lines(self) -> list[Line]:
        """Every line that may have calls."""
        return [self.main, *(line for line in self.busy if line is not self.main)]

    def _list(self, line: Line) -> None:
        if not line.listed:
            line.listed = True
            self.busy.append(line)
            if line.key is not None:
                self.groups[line.key] = line


def _rank(call: Call) -> tuple[int, str]:
    special = call.special
    return (0, "") if special is None else (special.priority, special.tag)
