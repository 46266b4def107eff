"""What a contender is, and the loops that time one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

HERE = Path(__file__).resolve().parent.parent
ECHO_WORKER = HERE / "echo_worker.py"

KIB = 1024
MIB = 1024 * KIB

SIZES: Mapping[str, int] = {
    "64 B": 64,
    "64 KiB": 64 * KIB,
    "8 MiB": 8 * MIB,
    "8 MiB array": 8 * MIB,
    "64 MiB array": 64 * MIB,
}
"""Bytes in a payload, by its name: bytes, or a one-dimensional float32 array where the name says so."""

ONE = "1"
"""The mode in which the next call begins when the last has been answered; its latencies are kept."""

ONE_CORE, TWO_CORES = "1@one-core", "1@two-cores"
"""The same with caller and worker pinned to one core, or to one each; see placement.py."""

PLACEMENTS = (ONE, ONE_CORE, TWO_CORES)

BULK = "bulk"
"""The mode in which everything is submitted first and collected afterwards."""

Modes = Mapping[str, tuple[str, ...]]
"""The modes that a contender runs, by payload name."""


class Unavailable(Exception):
    """A contender cannot run here; the message is the reason that the table gives."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run: `calls` echoes in `seconds`; p50 and p99 of a call in microseconds, when made one at a time."""

    calls: int
    seconds: float
    p50_us: float | None = None
    p99_us: float | None = None

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def speed(self) -> float:
        """What ratios are taken of: calls a second, or one over the median latency, which other work disturbs less."""
        return self.rate if self.p50_us is None else 1e6 / self.p50_us


class Contender(Protocol):
    """Something that echoes payloads. Each lives in a process of its own, from `open` to `close`.

    `name` is what `--only` takes, `title` what tables show, `distribution` the package whose version is recorded.
    `open` raises Unavailable when the machine lacks what it needs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    distribution: ClassVar[str | None]
    modes: ClassVar[Modes]

    def open(self) -> None: ...

    def close(self) -> None: ...

    def run(self, payload: str, mode: str, calls: int) -> Sample: ...


def in_flight(mode: str) -> int:
    """How many calls a mode keeps open at once: the number in its name, or 64 where it has none."""
    digits = "".join(c for c in mode.split("@")[0] if c.isdigit())
    return int(digits) if digits else 64


def is_single(mode: str) -> bool:
    """Whether a mode has one call at a time."""
    return mode in PLACEMENTS


def make_payload(payload: str) -> Any:
    """The bytes, or the array, that a payload's name stands for."""
    if "array" not in payload:
        return b"x" * SIZES[payload]
    import numpy

    return numpy.arange(SIZES[payload] // 4, dtype=numpy.float32)


def check_echo(sent: Any, got: Any) -> None:
    """Raise RuntimeError unless what came back is what was sent."""
    if isinstance(sent, bytes):
        same = bytes(got) == sent
    else:
        same = got.dtype == sent.dtype and got.shape == sent.shape and bool((got == sent).all())
    if not same:
        raise RuntimeError("the echo is not what was sent")


def percentiles(times_ns: list[int]) -> tuple[float, float]:
    """p50 and p99 in microseconds of latencies in nanoseconds; sorts the list."""
    times_ns.sort()
    return times_ns[len(times_ns) // 2] / 1e3, times_ns[len(times_ns) * 99 // 100] / 1e3


def time_each(call: Callable[[], Any], calls: int) -> Sample:
    """One call at a time through a blocking API."""
    clock = time.perf_counter_ns
    times: list[int] = []
    start = last = clock()
    for _ in range(calls):
        call()
        now = clock()
        times.append(now - last)
        last = now
    return Sample(calls, (last - start) / 1e9, *percentiles(times))


def time_window(submit: Callable[[], Any], result: Callable[[Any], Any], calls: int, window: int) -> Sample:
    """A sliding window over an API of futures: `window` open, the oldest is collected before the next goes out."""
    start = time.perf_counter()
    open_futures: deque[Any] = deque()
    for _ in range(calls):
        if len(open_futures) == window:
            result(open_futures.popleft())
        open_futures.append(submit())
    while open_futures:
        result(open_futures.popleft())
    return Sample(calls, time.perf_counter() - start)


def time_bulk(submit: Callable[[], Any], result: Callable[[Any], Any], calls: int) -> Sample:
    """Everything submitted, then everything collected."""
    start = time.perf_counter()
    futures = [submit() for _ in range(calls)]
    for future in futures:
        result(future)
    return Sample(calls, time.perf_counter() - start)
