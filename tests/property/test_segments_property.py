"""The accounts of segments under any sequence of takes, holds and releases: none freed while held, all in the end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mlports.core.segments import Segments, size_for

MOST, COUNT, IDLE, SECONDS = 1 << 20, 12, 1 << 18, 5.0

steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, MOST + 10)),
        st.tuples(st.just("hold"), st.integers(0, 100)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("forget"), st.integers(0, 100)),
        st.tuples(st.just("wait"), st.integers(0, 7)),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps)
def test_none_is_freed_while_it_is_held_and_all_are_in_the_end(steps: list[tuple[str, int]]) -> None:
    accounts = Segments(MOST, COUNT, IDLE, SECONDS)
    held: dict[int, int] = {}
    exist: dict[int, int] = {}
    now = 0.0
    for what, number in steps:
        some = list(held)[number % len(held)] if held else None
        if what == "take":
            taken = accounts.take(number)
            if taken is not None:
                assert taken.size >= number
                assert taken.number not in held
                assert taken.is_new == (taken.number not in exist)
                for closed in taken.close:
                    assert closed not in held
                    del exist[closed]
                exist[taken.number] = taken.size
                held[taken.number] = 1
            else:
                in_use = sum(exist[one] for one in held)
                assert in_use + size_for(number) > MOST or len(held) == COUNT
        elif what == "hold" and some is not None:
            accounts.hold(some)
            held[some] += 1
        elif what == "release" and some is not None:
            accounts.release(some, now)
            held[some] -= 1
            if not held[some]:
                del held[some]
        elif what == "forget" and some is not None:
            accounts.forget(some)
            del held[some], exist[some]
        elif what == "wait":
            now += number
            for closed in accounts.due(now):
                assert closed not in held
                del exist[closed]
            assert sum(size for one, size in exist.items() if one not in held) <= IDLE
        assert len(accounts) == len(exist) <= COUNT
        assert accounts.in_use == len(held)
        assert accounts.bytes == sum(exist.values()) <= MOST
        assert all(accounts.holders(one) == count for one, count in held.items())
    for one, count in held.items():
        for _ in range(count):
            accounts.release(one, now)
    assert sorted(accounts.due(now + SECONDS)) == sorted(exist)
    assert len(accounts) == accounts.bytes == accounts.in_use == 0


@given(st.integers(1, 1 << 45))
def test_a_size_is_whole_pages_and_little_more_than_asked_for(nbytes: int) -> None:
    size = size_for(nbytes)
    assert nbytes <= size <= max(4096, nbytes * 1.25 + 4096)
    assert size % 4096 == 0
    assert size_for(size) == size
