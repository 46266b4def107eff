"""What segments there are, and which are idle: `mlports.core.segments`."""

from __future__ import annotations

from mlports.core.segments import Segments, size_for

MIB = 1024 * 1024


def test_what_was_in_use_last_is_taken_first() -> None:
    accounts = Segments(100 * MIB, 10, 100 * MIB, 5)
    taken = [accounts.take(MIB) for _ in range(3)]
    numbers = [one.number for one in taken if one is not None]
    for when, number in enumerate(numbers):
        accounts.release(number, when)
    again = accounts.take(MIB - 1)
    assert again is not None
    assert (again.number, again.is_new) == (numbers[-1], False)


def test_a_much_larger_one_is_not_taken_for_a_small_array() -> None:
    accounts = Segments(100 * MIB, 10, 100 * MIB, 5)
    large = accounts.take(8 * MIB)
    assert large is not None
    accounts.release(large.number, 0)
    for nbytes, is_new in [(MIB, True), (4 * MIB, False)]:
        taken = accounts.take(nbytes)
        assert taken is not None
        assert taken.is_new is is_new


def test_idle_ones_go_for_a_new_one_and_only_if_that_helps() -> None:
    accounts = Segments(4 * MIB, 10, 100 * MIB, 5)
    small = [accounts.take(MIB) for _ in range(3)]
    numbers = [one.number for one in small if one is not None]
    accounts.release(numbers[0], 0)
    assert accounts.take(4 * MIB) is None
    assert len(accounts) == 3
    accounts.release(numbers[1], 0)
    taken = accounts.take(3 * MIB)
    assert taken is not None
    assert taken.close == tuple(numbers[:2])


def test_more_than_there_may_ever_be_is_refused() -> None:
    assert Segments(MIB, 10, MIB, 5).take(1 << 60) is None
    assert Segments(0, 10, MIB, 5).take(1) is None
    assert Segments(MIB, 0, MIB, 5).take(1) is None


def test_those_that_were_idle_for_long_are_closed_and_the_oldest_of_too_many() -> None:
    accounts = Segments(100 * MIB, 10, 2 * MIB, 5)
    taken = [accounts.take(MIB) for _ in range(4)]
    for when, one in enumerate(taken):
        assert one is not None
        accounts.release(one.number, when)
    assert accounts.due(3) == [0, 1]
    assert accounts.due(6.9) == []
    assert accounts.due(7) == [2]
    assert accounts.due(8) == [3]
    assert accounts.bytes == 0


def test_sizes() -> None:
    assert [size_for(n) for n in (1, 4096, 4097, 100_000)] == [4096, 4096, 8192, 114_688]
    assert size_for(64 * MIB) == 64 * MIB
    assert size_for(64 * MIB + 1) == 80 * MIB
