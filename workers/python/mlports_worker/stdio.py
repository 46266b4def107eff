"""Keeps the protocol's stream for the protocol: whatever prints, prints on standard error."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

TRANSPORT_VARIABLE = "MLPORTS_TRANSPORT"
WORKER_VARIABLE = "MLPORTS_WORKER"


class Channel(NamedTuple):
    """The two file descriptors that carry frames; not inherited by programs that the worker starts."""

    read: int
    write: int


_channel: Channel | None = None


def take_channel() -> Channel:
    """The protocol's file descriptors, taken away from everybody else. The first call decides; later ones agree.

    Descriptors 0 and 1 are moved elsewhere; in their places stand an empty input and standard error, so that a print,
    also one by a C library, cannot get between two frames. With `transport = "fd34"` descriptors 3 and 4 carry the
    frames, and 0 and 1 are left as they are.
    """
    global _channel
    if _channel is None:
        os.environ.pop(WORKER_VARIABLE, None)  # programs that the worker starts are not workers
        _channel = _take_3_and_4() if os.environ.pop(TRANSPORT_VARIABLE, "") == "fd34" else _take_0_and_1()
    return _channel


def close_channel(channel: Channel) -> None:
    """Ends the stream to the orchestrator. The descriptor stays taken, so that nothing else can get its number."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, channel.write, inheritable=False)
    os.close(null)


def started_by_orchestrator() -> bool:
    """Whether an orchestrator started this program, as its environment says."""
    return os.environ.get(WORKER_VARIABLE) == "1"


def _take_0_and_1() -> Channel:
    channel = Channel(os.dup(0), os.dup(1))
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    # What Python has buffered for stdout by now was not meant for the protocol either: it is not flushed before.
    os.dup2(2, 1)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)
    return channel


def _take_3_and_4() -> Channel:
    for descriptor in (3, 4):
        os.set_inheritable(descriptor, False)
    return Channel(3, 4)
