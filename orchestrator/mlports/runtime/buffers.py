"""Buffers that wait to be written, as many at a time as one system call should take."""

from __future__ import annotations

from collections import deque

from mlports_protocol import Buffer

_WRITE_SIZE = 256 * 1024
_MOST_VECTORS = 512


def first_ones(buffers: deque[Buffer]) -> list[Buffer]:
    """The first buffers, as many as one system call should take."""
    chosen: list[Buffer] = []
    size = 0
    for buffer in buffers:
        chosen.append(buffer)
        size += len(buffer)
        if size >= _WRITE_SIZE or len(chosen) == _MOST_VECTORS:
            break
    return chosen


def drop(buffers: deque[Buffer], written: int) -> None:
    """Takes the first `written` bytes away."""
    while buffers:
        size = len(buffers[0])
        if written < size:
            if written:
                buffers[0] = memoryview(buffers[0])[written:]
            return
        written -= size
        buffers.popleft()
