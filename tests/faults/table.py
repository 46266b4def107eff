"""The faults of workers/faulty, a row for each: what is done to a worker that has it, and all that comes of that."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from mlports import (
    DeadlineExceeded,
    HeartbeatConfig,
    InvalidArgument,
    ProtocolViolation,
    ServiceDown,
    WarmUpConfig,
    WorkerCrashed,
    WorkerError,
)
from tests.faults.scene import Scene, careless, outcome, verdict_of

Act = Callable[[Scene, Path], Awaitable[Any]]


# What is done to a worker that is up. Each gives what its caller sees; `place` is a directory of the test's own.


async def go(seen: Scene, place: Path) -> Any:
    """Calls `go`, and gives its outcome."""
    return await outcome(seen.call("go"))


def calls(method: str, *params: Any, timeout: float = 20) -> Act:
    """Calls this method."""

    async def act(seen: Scene, place: Path) -> Any:
        return await outcome(seen.call(method, *params, timeout=timeout))

    return act


async def goes_when_down(seen: Scene, place: Path) -> Any:
    """Calls `go` when the service was given up."""
    await seen.until("gave_up")
    return await go(seen, place)


async def goes_twice(seen: Scene, place: Path) -> Any:
    """Calls `go`, and again when that has failed."""
    assert type(await go(seen, place)) is WorkerCrashed
    return await go(seen, place)


async def goes_two_at_once(seen: Scene, place: Path) -> Any:
    """Two calls of `go`, which have one fate."""
    first, second = await asyncio.gather(*(outcome(seen.call("go")) for _ in range(2)))
    assert verdict_of(first) == verdict_of(second)
    return second


async def goes_and_goes_on(seen: Scene, place: Path) -> Any:
    """Calls that follow are answered, whatever it takes."""
    assert await seen.call("go") == "done"
    return await asyncio.gather(*(seen.call("echo", number) for number in range(10)))


async def goes_and_stops(seen: Scene, place: Path) -> Any:
    """Stops the orchestrator after a call."""
    result = await go(seen, place)
    seen.stopped = True
    await seen.orch.stop()
    return result


async def stops_while_it_goes(seen: Scene, place: Path) -> Any:
    """Stops the orchestrator during a call."""
    call = seen.call("go")
    seen.stopped = True
    await seen.orch.stop()
    return await outcome(call)


async def works(seen: Scene, place: Path) -> Any:
    """All kinds of values, one by one and many at once."""
    values: list[Any] = ["a", 1, None, [0.5, {"deep": [b"bytes"]}], "x" * 2000]
    assert await asyncio.gather(*(seen.call("echo", value) for value in values)) == values
    return await seen.orch.map("faulty.echo", range(20))


async def maps(seen: Scene, place: Path) -> Any:
    """Each item of a batch fails; gives the first one's error."""
    outcomes = await seen.orch.map("faulty.go", range(20), return_exceptions=True)
    assert [type(error) for error in outcomes] == [WorkerError] * 20
    assert {error.code for error in outcomes} == {"internal"}
    with pytest.raises(WorkerError, match=r"^faulty\.go: the worker('s)? "):
        await seen.orch.map("faulty.go", range(5))
    assert await seen.orch.map("faulty.echo", range(20)) == list(range(20))
    return outcomes[0]


async def is_flooded(seen: Scene, place: Path) -> Any:
    """What a worker floods its orchestrator with takes no room there."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await go(seen, place)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 32, f"{grown} MiB more than before"
    assert len(seen.orch.event_log.recent) <= 1000
    return result


async def is_flooded_for_long(seen: Scene, place: Path) -> Any:
    """It takes nobody else's turn either."""
    ticks = seen.ticks
    result = await is_flooded(seen, place)
    assert seen.ticks > ticks + 10, "the neighbour was not answered meanwhile"
    return result


async def logs_no_text(seen: Scene, place: Path) -> Any:
    """What is no text is escaped in the log."""
    result = await is_flooded(seen, place)
    assert "\\x80\\x81" in await seen.until_logged("\\xff")
    return result


async def exchanges_8_mib(seen: Scene, place: Path) -> Any:
    """Twice 8 MiB in and out at the same time."""
    body = os.urandom(8 * 1024 * 1024)
    return [await seen.call("go", body) == bytes(len(body)) for _ in range(2)]


async def dies_once(seen: Scene, place: Path) -> Any:
    """Calls what kills its worker the first time."""
    return await outcome(seen.call("dies_once", str(place / "marker")))


async def cancels_when_locked(seen: Scene, place: Path) -> Any:
    """Gives a call up as soon as its handler hangs."""
    began = asyncio.Event()
    call = seen.orch.call("faulty.locks_up", progress=lambda *_: began.set(), timeout=None)
    await began.wait()
    call.cancel()
    return await outcome(call)


class Row(NamedTuple):
    """A fault and what comes of it.

    `name`, `status`, `text`, `ready`, `in_flight`, `stacks` and `stderr` are about the verdict of the last death, or,
    where `act` stops the orchestrator, of that stop. Without a name it lives, and `text` is about what the caller sees.
    """

    fault: str
    sees: Any  # the type of the exception or of the result, or the result itself
    name: str = ""  # or the cause, where that is all that is certain
    status: int | None = None  # None: not certain
    text: tuple[str, ...] = ()  # what is in the detail
    act: Act = go
    settings: Mapping[str, Any] = MappingProxyType({})  # of the service
    command: list[str] | None = None  # None: faulty.py with this fault
    deaths: tuple[str, ...] = ()  # the names of all verdicts
    restarts: int = 0
    is_down: bool = False  # it was given up in the end
    ready: bool = True
    in_flight: int = 0
    stacks: str = ""  # what is in them
    stderr: tuple[str, ...] = ()  # its last words
    leaves: bool = False  # the result is the pid of a process that is to end with the orchestrator
    stop: tuple[float, float] = (0, 5)  # seconds that the stop takes at least and at most

    @property
    def cause(self) -> str:
        """Of the verdict."""
        kind = self.name.partition(" ")[0]
        return "signal" if kind.startswith("SIG") else kind


def dies(fault: str, sees: Any, name: str, status: int | None, *text: str, **more: Any) -> Row:
    """One death in a call, after which it is started again."""
    return Row(fault, sees, name, status, text, **{"deaths": (name,), "restarts": 1, **more})


def crashes(fault: str, name: str, status: int | None, *text: str, **more: Any) -> Row:
    """The same, and the caller gets no answer."""
    return dies(fault, WorkerCrashed, name, status, *text, **{"in_flight": 1, **more})


def violates(fault: str, violation: str, *text: str, sees: Any = ProtocolViolation, **more: Any) -> Row:
    """A broken protocol in a call."""
    told = f"broke the protocol: {violation}: "
    in_flight = 1 if sees is ProtocolViolation else 0
    settings = {"max_frame": "1MiB"}
    return dies(fault, sees, "protocol", -9, told, *text, **{"in_flight": in_flight, "settings": settings, **more})


def fails(fault: str, name: str, status: int | None, *text: str, **more: Any) -> Row:
    """A first start that fails, after which there is no other."""
    usual = {"act": goes_when_down, "deaths": (name,), "ready": False, "is_down": True}
    return Row(fault, ServiceDown, name, status, text, **{**usual, **more})


def violates_at_start(fault: str, violation: str, *text: str, **more: Any) -> Row:
    """A broken protocol in place of a start."""
    return fails(fault, "protocol", -9, f"broke the protocol: {violation}: ", *text, **more)


def lives(fault: str, sees: Any, *text: str, **more: Any) -> Row:
    """No death at all."""
    return Row(fault, sees, text=text, **more)


def stops(fault: str, sees: Any, status: int, *text: str, **more: Any) -> Row:
    """A death of the orchestrator's doing."""
    return Row(fault, sees, "stopped", status, text, **{"act": goes_and_stops, **more})


HEARTBEAT = {"heartbeat": HeartbeatConfig(interval=0.1, timeout=0.5)}
SILENT = "hung: it answered no ping for 0.5 s (heartbeat)"
LIMIT = {"memory_limit": "64MiB"}
GO_FIRST = [WarmUpConfig(method="go")]

AT_START = [
    violates_at_start("prints-before-hello", "StdoutPolluted", "text where a frame was due: 'loading the model\\n"),
    fails("exits-before-hello", "exit 3", 3, "exited with status 3", stderr=("there is no file m.skops",)),
    fails("exits-0-before-hello", "exit 0", 0, "exited with status 0"),
    fails("segfaults-before-hello", "SIGSEGV", -11, "was killed by SIGSEGV"),
    fails(
        "never-says-hello",
        "start_timeout",
        -12,
        "did not answer $/hello within 1 s (start_timeout)",
        settings={"start_timeout": 1.0},
    ),
    fails("closes-stdout-before-hello", "closed", -9, "closed its stdout and went on running"),
    violates_at_start("hello-version-2", "UnsupportedVersion", "the worker chose version 2 of the protocol"),
    violates_at_start("hello-rubbish", "InvalidHello", "$/hello is answered by a map, not 'rubbish'"),
    violates_at_start(
        "hello-twice",
        "AnsweredTwice",
        "an answer for request 0",
        settings={"intensity": 2},
        deaths=("protocol",) * 3,
        restarts=2,
        ready=True,
    ),
    violates_at_start("casts-before-hello", "HandshakeExpected", "before the handshake was done"),
    lives(
        "hello-tiny-frames",
        InvalidArgument,
        "cannot be sent: the message is",
        "the peer accepts frames of 32 (max_frame)",
        act=calls("echo", "a text that is too long for this one"),
    ),
    lives("hello-error", list(range(20)), act=works),
    lives("slow-loris", list(range(20)), act=works),
    fails(
        "exits-after-hello",
        "exit 1",
        1,
        "exited with status 1",
        settings={"intensity": 2},
        deaths=("exit 1",) * 3,
        restarts=2,
        ready=True,
    ),
    crashes(
        "never-comes-back",
        "exit 3",
        3,
        "exited with status 3",
        settings={"intensity": 2},
        deaths=("exit 1", "exit 3", "exit 3"),
        restarts=2,
        is_down=True,
        ready=False,
        in_flight=0,
    ),
    crashes(
        "dies-on-the-third-start",
        "exit 3",
        3,
        "exited with status 3",
        act=goes_twice,
        deaths=("exit 1", "exit 1", "exit 3"),
        restarts=3,
        ready=False,
        in_flight=0,
    ),
]

WRITES = [
    violates("prints-between-frames", "StdoutPolluted", "text where a frame was due: 'loss: 0.25\\n"),
    violates("prints-inside-a-frame", "TrailingBytes", "after 100 batches of 32': did the program print on its"),
    violates("floods-stdout", "FrameTooLarge", "a frame of 4294967295 bytes"),
    violates("empty-frame", "EmptyFrame", "a frame of length 0"),
    violates("oversized-frame", "FrameTooLarge", "a frame of 2147483648 bytes, where at most 1048576"),
    violates("result-too-large", "FrameTooLarge", "where at most 1048576 were agreed (max_frame)"),
    violates("garbage-frame", "MalformedValue", "a frame of 5 bytes is not one MessagePack value"),
    violates("trailing-bytes", "TrailingBytes", "2 bytes behind the value"),
    violates("not-a-message", "InvalidMessage", "a message begins with 0, 1 or 2, not 7"),
    violates("error-is-text", "InvalidMessage", "an error is nil or a map with code and message"),
    violates("answers-unknown-id", "UnknownId", "which was never made"),
    violates("answers-twice", "AnsweredTwice", "for request 1, which was answered already", sees="first"),
    violates("item-without-credit", "CreditExceeded", "beyond the credit"),
    violates("same-id-twice", "DuplicateId", "request id 0 is still in use"),
    violates("exits-inside-a-frame", "TruncatedFrame", "the stream ended inside a frame")._replace(status=0),
    crashes(
        "killed-inside-a-frame",
        "SIGKILL",
        -9,
        "was killed by SIGKILL",
        "TruncatedFrame: the stream ended inside a frame: ",
    ),
    fails(
        "warm-up-fails",
        "warm_up",
        -9,
        "failed its warm-up: go answered failed_precondition: there is no model",
        settings={"warm_up": GO_FIRST},
    ),
    lives("floods-logs", "done", act=is_flooded_for_long),
    lives("floods-stderr", "done", act=is_flooded_for_long),
    lives("stderr-without-newlines", "done", act=is_flooded),
    lives("stderr-binary", "done", act=logs_no_text),
    lives("odd-deadlines", ["deadline_exceeded", "answered"] * 2 + ["answered"] * 2),
    lives("batch-too-few", WorkerError, "answered a batch of 1 with 0 outcomes, not with as many pairs", act=maps),
    lives("batch-too-many", WorkerError, "answered a batch of 1 with 1000 outcomes, not with as many pairs", act=maps),
    lives("batch-none", WorkerError, "answered a batch of 1 with None, not with as many pairs", act=maps),
    lives("batch-no-pairs", WorkerError, "outcome for an item of a batch is no pair [error, result]: 1", act=maps),
    lives("batch-rubbish-errors", WorkerError, "a map with code and message, not 'it went wrong'", act=maps),
    lives("writes-before-reading", [True, True], act=exchanges_8_mib),
]

ENDS = [
    crashes("exits-0", "exit 0", 0, "exited with status 0"),
    crashes("exits-0-amid-calls", "exit 0", 0, "exited with status 0", act=goes_two_at_once, in_flight=2),
    crashes("exits-1", "exit 1", 1, "exited with status 1", stderr=("CUDA out of memory",)),
    dies("exits-after-its-answer", "done", "exit 1", 1, "exited with status 1"),
    stops("exits-7-when-stopped", "late", 7, "was stopped (the orchestrator stops)", act=stops_while_it_goes),
    crashes("kills-itself", "SIGKILL", -9, "was killed by SIGKILL"),
    crashes("kills-its-group", "SIGTERM", -15, "was killed by SIGTERM"),
    crashes("terminated-from-outside", "SIGTERM", -15, "was killed by SIGTERM"),
    crashes("dies-of-signal-40", "signal 40", -40, "was killed by signal 40"),
    crashes("segfaults", "SIGSEGV", -11, "was killed by SIGSEGV"),
    crashes("aborts", "SIGABRT", -6, "was killed by SIGABRT"),
    crashes("dies-while-it-calls", "exit 1", 1, "exited with status 1"),
    crashes("becomes-another-program", "hang", -9, SILENT, settings=HEARTBEAT),
    crashes("closes-stdout", "closed", -9, "closed its stdout and went on running"),
    dies("closes-stdin", list(range(10)), "closed", -9, "closed its stdin and went on running", act=goes_and_goes_on),
    lives("closes-stderr", list(range(10)), act=goes_and_goes_on),
]

GROWS = [
    dies(
        "grows-too-large",
        "done",
        "memory_limit",
        -9,
        "over its limit of 64 MiB (memory_limit); it finished what it was at, and was killed",
        settings=LIMIT,
    ),
    crashes("grows-far-too-large", "memory_limit", -9, "was killed", "memory_limit", settings=LIMIT),
    crashes("grows-in-a-child", "memory_limit", -9, "was killed", "memory_limit", settings=LIMIT),
    crashes(
        "uses-up-its-address-space",
        "SIGABRT",
        -6,
        "was killed by SIGABRT",
        stderr=("terminate called after throwing an instance of 'std::bad_alloc'",),
    ),
]

LEAVES = [
    crashes("leaves-a-grandchild", "exit 1", 1, "exited with status 1"),
    lives("leaves-a-session", int, leaves=True),
    lives("leaves-a-daemon", int, leaves=True),
]

HANGS = [
    lives(
        "never-answers",
        DeadlineExceeded,
        "faulty.go was not answered within its timeout: a worker had been at it for 0.",
        act=calls("go", timeout=0.3),
        settings={"grace": "infinity"},
    ),
    dies(
        "ignores-cancel",
        DeadlineExceeded,
        "hang",
        -9,
        "hung: it was at go for 0.",
        "and still 0.1 s after it was told that nobody waits for the answer (grace)",
        act=calls("go", timeout=0.1),
        settings={"grace": 0.1},
        in_flight=1,
    ),
    lives("heeds-cancel-late", DeadlineExceeded, act=calls("go", timeout=0.1), settings={"grace": 5.0}),
    crashes("stops-itself", "hang", -9, SILENT, settings=HEARTBEAT),
    dies("ignores-pings", "done", "hang", -9, SILENT, settings=HEARTBEAT),
    fails(
        "warm-up-hangs",
        "start_timeout",
        -9,
        "did not end its warm-up within 1 s (start_timeout)",
        settings={"warm_up": GO_FIRST, "start_timeout": 1.0},
    ),
    stops(
        "ignores-stop",
        "done",
        -15,
        "was stopped (the orchestrator stops): it ignored the request for 0.2 s, then SIGTERM",
        settings={"shutdown": 0.2},
    ),
    stops(
        "ignores-everything",
        "done",
        -9,
        "was stopped (the orchestrator stops): it ignored the request and SIGTERM, then SIGKILL",
        settings={"shutdown": 0.2},
        stop=(1.1, 5),
    ),
    stops("takes-its-leave", "done", 0, "was stopped (the orchestrator stops)", settings={"shutdown": 10.0}),
]

BY_CARELESSNESS = [
    crashes("exits", "exit 3", 3, "exited with status 3", act=calls("exits", 3)),
    crashes("exits_async", "exit 0", 0, "exited with status 0", act=calls("exits_async", 0)),
    crashes("exits_at_once", "exit 3", 3, "exited with status 3", act=calls("exits_at_once", 3)),
    dies("dies_once", "alive", "SIGKILL", -9, "was killed by SIGKILL", act=dies_once, in_flight=1),
    crashes(
        "dies_always",
        "SIGKILL",
        -9,
        "was killed by SIGKILL",
        act=calls("dies_always"),
        settings={"retries": 1},
        deaths=("SIGKILL", "SIGKILL"),
        restarts=2,
    ),
    violates("forks", "AnsweredTwice", "an answer for request 1", act=calls("forks"), sees=int),
    crashes("closes_descriptors", "exit", None, act=calls("closes_descriptors")),
    dies(
        "locks_up",
        asyncio.CancelledError,
        "hang",
        -9,
        "hung: it was at locks_up for ",
        "(grace)",
        act=cancels_when_locked,
        settings={"grace": 0.1},
        in_flight=1,
        stacks="in locks_up",
    ),
    crashes(
        "holds_the_interpreter",
        "hang",
        -9,
        SILENT,
        act=calls("holds_the_interpreter"),
        settings=HEARTBEAT,
        stacks="in holds_the_interpreter",
    ),
]

FROM_THE_BEGINNING = [
    violates_at_start(
        "prints-first-at-once",
        "StdoutPolluted",
        "text where a frame was due: 'loading the model\\n",
        "import the SDK before anything that prints",
        'transport = "fd34"',
    ),
    fails("setup-fails", "exit 1", 1, "exited with status 1", stderr=("FileNotFoundError: there is no file m.skops",)),
    fails(
        "setup-hangs",
        "start_timeout",
        -9,
        "did not answer $/hello within 1.5 s (start_timeout)",
        settings={"start_timeout": 1.5},
        stacks="in setup",
    ),
]

ROWS = [
    *AT_START,
    *WRITES,
    *ENDS,
    *GROWS,
    *LEAVES,
    *HANGS,
    *(row._replace(command=careless()) for row in BY_CARELESSNESS),
    *(row._replace(command=careless(row.fault)) for row in FROM_THE_BEGINNING),
]
