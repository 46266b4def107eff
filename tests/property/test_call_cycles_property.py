"""What is stuck, against a service that is simulated until nothing moves any more."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mlports.core.call_cycles import Slots, Waiting, path, stuck

SERVICES = "abcd"


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[list[Waiting], list[Slots]]:
    slots: list[Slots] = []
    home: dict[int, Slots] = {}
    call = 0
    for service in SERVICES:
        for replica in range(draw(st.integers(0, 2))):
            capacity = draw(st.sampled_from([1, 1, 1, 2, 3]))
            busy = draw(st.sampled_from([capacity, capacity, draw(st.integers(0, capacity))]))
            each = Slots(service, replica, capacity, tuple(range(call, call + busy)))
            slots.append(each)
            home |= dict.fromkeys(each.at, each)
            call += busy
    begun = list(home)
    # Of a call that was begun, the maker is an earlier one, so that nobody makes his own maker.
    waiting = []
    for each_call in begun[1:]:
        if draw(st.booleans()):
            maker = draw(st.sampled_from(begun[: begun.index(each_call)]))
            waiting.append(Waiting(each_call, home[each_call].service, maker, None))
    for other in range(draw(st.integers(0, 8))):
        service = draw(st.sampled_from(SERVICES))
        mine = [(each.service, each.replica) for each in slots if each.service == service]
        lane = draw(st.sampled_from([None, None, *mine]))
        by = draw(st.sampled_from([*begun, *begun, None])) if begun else None
        waiting.append(Waiting(call + other, service, by, lane))
    return draw(st.permutations(waiting)), draw(st.permutations(slots))


def simulated(waiting: list[Waiting], slots: list[Slots]) -> set[int]:
    """Lets all calls begin and end as they can; those that never began."""
    at = {(each.service, each.replica): set(each.at) for each in slots}
    capacity = {(each.service, each.replica): each.capacity for each in slots}
    open_calls = {each.call: each for each in waiting}
    begun = {call for held in at.values() for call in held}
    moved = True
    while moved:
        moved = False
        for held in at.values():
            for call in list(held):
                if not any(each.by == call for each in open_calls.values()):
                    held.remove(call)
                    open_calls.pop(call, None)
                    moved = True
        for each in list(open_calls.values()):
            if each.call in begun:
                continue
            lanes = [each.lane] if each.lane else [lane for lane in at if lane[0] == each.service]
            room = [lane for lane in lanes if len(at[lane]) < capacity[lane]]
            if room:
                at[room[0]].add(each.call)
                begun.add(each.call)
                moved = True
            elif not lanes:  # it is starting
                del open_calls[each.call]
                moved = True
    return set(open_calls) - begun


@given(snapshots())
@settings(max_examples=300)
def test_what_is_stuck(snapshot: tuple[list[Waiting], list[Slots]]) -> None:
    waiting, slots = snapshot
    found = stuck(waiting, slots)
    assert found == simulated(waiting, slots)
    begun = {call for each in slots for call in each.at}
    for each in waiting:
        names = path(each.call, waiting, slots, {})
        assert bool(names) == (each.call in found)
        if names:
            assert len(names) >= 2
            assert names[0] == names[-1]
            services = {one.call: one.service for one in waiting} | {
                call: one.service for one in slots for call in one.at
            }
            made = {(services[one.by], one.service) for one in waiting if one.by in begun and one.by is not None}
            assert set(pairwise(names)) <= made
