"""How many calls travel together."""

from __future__ import annotations

import pytest

from mlports.core.batching import ChunkSize, frame_size

QUICK, SLOW = 0.00005, 0.001  # seconds


@pytest.mark.parametrize(
    ("waiting", "room", "replicas", "pace", "size"),
    [
        (100, 100, 1, None, 1),  # nothing is known of the handler yet
        (100, 100, 1, SLOW, 1),  # each is answered the moment it is done
        (100, 100, 1, QUICK, 100),
        (10, 100, 1, QUICK, 10),
        (100, 7, 1, QUICK, 7),
        (100, 100, 4, QUICK, 25),  # each replica has its share
        (101, 100, 4, QUICK, 26),
        (3, 100, 4, QUICK, 1),
        (1000, 1000, 1, QUICK, 128),
        (5, 0, 1, QUICK, 1),  # who asks has found room for one
        (5, 100, 1, 0.0001, 5),
        (5, 100, 1, 0.00011, 1),
    ],
)
def test_frame_size(waiting: int, room: int, replicas: int, pace: float | None, size: int) -> None:
    assert frame_size(waiting, room, replicas, pace) == size


@pytest.mark.parametrize(
    ("waiting", "pace", "in_flight", "size"),
    [
        (10, QUICK, 128, 0),  # there is enough to do until there is company
        (63, QUICK, 500, 0),
        (64, QUICK, 500, 64),
        (10, QUICK, 127, 10),
        (10, SLOW, 128, 1),  # each travels alone anyway
    ],
)
def test_few_calls_wait_while_a_quick_replica_has_enough_to_do(
    waiting: int, pace: float, in_flight: int, size: int
) -> None:
    assert frame_size(waiting, 1000, 1, pace, in_flight) == size


def test_a_chunk_doubles_while_it_takes_less_than_5_ms() -> None:
    chunk = ChunkSize()
    sizes = []
    for _ in range(10):
        chunk.answered(chunk.size, chunk.size * SLOW)
        sizes.append(chunk.size)
    assert sizes == [2, 4, 4, 4, 4, 4, 4, 4, 4, 4]


def test_a_chunk_has_a_bound() -> None:
    chunk = ChunkSize()
    for _ in range(30):
        chunk.answered(chunk.size, 0.0)
    assert chunk.size == 4096
    small = ChunkSize(most=10)
    for _ in range(30):
        small.answered(small.size, 0.0)
    assert small.size == 10


def test_a_chunk_that_took_too_long_is_halved() -> None:
    chunk = ChunkSize()
    for _ in range(5):
        chunk.answered(chunk.size, 0.0)
    assert chunk.size == 32
    chunk.answered(32, 0.100)
    assert chunk.size == 16


def test_one_item_at_a_time_is_the_least() -> None:
    chunk = ChunkSize()
    for _ in range(5):
        chunk.answered(chunk.size, 60.0)
    assert chunk.size == 1


def test_a_short_last_chunk_says_nothing_of_longer_ones() -> None:
    chunk = ChunkSize()
    for _ in range(3):
        chunk.answered(chunk.size, 0.0)
    chunk.answered(1, 0.0)
    assert chunk.size == 8


def test_answers_to_older_and_smaller_chunks_do_not_shrink_twice_over() -> None:
    """Two chunks are under way at a time: both were made before either was known to be slow."""
    chunk = ChunkSize()
    for _ in range(6):
        chunk.answered(chunk.size, 0.0)
    chunk.answered(64, 0.1)
    chunk.answered(64, 0.1)
    assert chunk.size == 32


def test_a_chunk_that_fits_no_frame_is_halved() -> None:
    chunk = ChunkSize()
    for _ in range(6):
        chunk.answered(chunk.size, 0.0)
    chunk.refused(64)
    assert chunk.size == 32
    chunk.refused(64)  # it was under way already
    assert chunk.size == 32
    chunk.refused(1)
    assert chunk.size == 1


def test_a_first_chunk_may_be_larger_and_no_larger_than_the_most() -> None:
    chunk = ChunkSize(100)
    assert chunk.size == 100
    chunk.answered(100, 0.0)
    assert chunk.size == 200
    assert ChunkSize(100_000).size == 4096
    with pytest.raises(ValueError, match="at least 1 item, not 0"):
        ChunkSize(0)
