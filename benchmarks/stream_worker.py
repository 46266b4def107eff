"""The worker of the streaming measurement: chunks of bytes one way, the other way, and both."""

from __future__ import annotations

from collections.abc import Iterator

from mlports_worker import Worker

worker = Worker("streams")


@worker.method
def chunks(count: int, size: int) -> Iterator[bytes]:
    """A stream of `count` chunks of `size` bytes."""
    chunk = bytes(size)
    for _ in range(count):
        yield chunk


@worker.method(input=True)
def length(chunks: Iterator[bytes]) -> int:
    """The bytes of a streamed argument."""
    return sum(map(len, chunks))


@worker.method(input=True)
def echo(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A streamed argument, given back."""
    yield from chunks


worker.run()
