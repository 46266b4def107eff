"""How far a writer may be ahead: 32 items, or what fits into 8 MiB."""

from __future__ import annotations

import pytest

from mlports_protocol import CreditWindow

MIB = 2**20


def come(window: CreditWindow, sizes: list[int]) -> list[int]:
    """Items that come one after the other and are not taken; the credit that is given after each."""
    granted = []
    for size in sizes:
        window.arrived(size)
        granted.append(window.grant())
    return granted


def test_the_first_credit_is_small_and_given_once() -> None:
    window = CreditWindow()
    assert [window.grant(), window.grant()] == [2, 0]


def test_small_items_are_let_come_as_soon_as_their_size_is_known() -> None:
    window = CreditWindow()
    window.grant()
    assert come(window, [10] * 32) == [30] + [0] * 31
    assert (window.coming, window.waiting, window.waiting_bytes) == (0, 32, 320)


def test_credit_is_given_again_by_halves() -> None:
    window = CreditWindow()
    window.grant()
    come(window, [10] * 32)
    granted = []
    for _ in range(32):
        window.taken(10)
        granted.append(window.grant())
    assert granted == ([0] * 15 + [16]) * 2
    assert window.coming == 32


@pytest.mark.parametrize(("size", "ahead"), [(MIB, 8), (2 * MIB, 4), (3 * MIB, 3), (8 * MIB, 2), (60 * MIB, 2)])
def test_large_items_are_few(size: int, ahead: int) -> None:
    """The last may go beyond; and the first two, of which nothing was known."""
    window = CreditWindow()
    total = window.grant()
    while window.coming:
        window.arrived(size)
        total += window.grant()
    assert total == ahead


@pytest.mark.parametrize("size", [8 * MIB, 60 * MIB])
def test_of_the_largest_one_comes_at_a_time(size: int) -> None:
    window = CreditWindow()
    window.grant()
    come(window, [size, size])
    for _ in range(2):
        window.taken(size)
    assert window.grant() == 1
    for _ in range(5):
        assert come(window, [size]) == [0]
        window.taken(size)
        assert window.grant() == 1


def test_it_forgets_a_large_item() -> None:
    window = CreditWindow()
    window.grant()
    ahead = []
    for size in [8 * MIB] + [10] * 200:
        while not window.coming:
            window.grant()
        window.arrived(size)
        window.taken(size)
        window.grant()
        ahead.append(window.coming)
    assert ahead[1] <= 1
    assert ahead[-1] > 16


def test_items_without_bytes() -> None:
    window = CreditWindow()
    window.grant()
    assert come(window, [0]) == [30]
