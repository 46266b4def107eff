"""Arrays in shared memory, between real processes: what is copied, who holds what, and that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import mlports
from mlports import CallError, InvalidArgument, Orchestrator, ProtocolViolation, ServiceConfig
from mlports.runtime.segments import Segment, SegmentPool
from mlports_protocol.shared_memory import LEAST, LEAST_ROOM
from tests.workers import marks, program, until, until_blocking

pytestmark = pytest.mark.skipif(not SegmentPool.is_possible(), reason="this system has no memfds, or no numpy")

WORKER = """
@worker.method
def echo(x):
    return x

@worker.method
def add(x, y):
    return x + y

@worker.method
def part(x, start, stop):
    return x[start:stop]

@worker.method
def many(count, size):
    return {"arrays": [np.full(size, number, np.uint8) for number in range(count)]}

@worker.method
def tell(x):
    return [bool(x.flags.writeable), bool(x.flags.owndata)]

@worker.method
async def later(x):
    await asyncio.sleep(0)
    return x + 1

@worker.method(batch=True)
def together(xs):
    return [x + 1 for x in xs]

@worker.method
def each(x, count):
    for number in range(count):
        yield x + number

@worker.method
def ask(target, x):
    return worker.call(target, x)

@worker.method
async def ask_later(target, x):
    return await worker.acall(target, x)

@worker.method
def ask_often(target, x, count):
    return sum(int(worker.call(target, x)[0]) for _ in range(count))

@worker.method
def hold(x, where):
    mark(where)
    wait_for(where + "-go-on")
    return x

@worker.method
def cut(x):
    told = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.exists("/proc/self/fd/" + name) and "memfd:mlports" in os.readlink("/proc/self/fd/" + name):
                writable = os.open("/proc/self/fd/" + name, os.O_RDWR)
                os.ftruncate(writable, 0)
        except OSError as error:
            told.append(error.errno)
    return told

@worker.method
def descriptors():
    return len(os.listdir("/proc/self/fd"))
"""

KIB, MIB = 1024, 1024 * 1024


@asynccontextmanager
async def arrays(
    directory: Path, pool: SegmentPool | None = None, concurrency: int | None = None, **options: Any
) -> AsyncIterator[Orchestrator]:
    """Two services of the program above, `a` and `b`; the segments are those of `pool`, if one is given."""
    command = program(directory, "import numpy as np\n" + dedent(WORKER), concurrency=concurrency)
    config = ServiceConfig(command=command, **options)
    orchestrator = Orchestrator(services={"a": config, "b": config})
    if pool is not None:
        orchestrator._segments = pool
    async with orchestrator:
        yield orchestrator


def accounts(orchestrator: Orchestrator) -> Any:
    pool = orchestrator._segments
    assert pool is not None
    pool.collect()
    return pool.accounts


async def all_let_go(orchestrator: Orchestrator) -> None:
    """Waits until nobody has any segment, which takes no garbage collector."""
    gc.disable()
    try:
        await until(lambda: accounts(orchestrator).in_use == 0, "nobody has any segment")
    finally:
        gc.enable()


def mappings_and_descriptors() -> list[str]:
    """What any process has of any segment, besides this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if "memfd:mlports" in maps or any("memfd:mlports" in link for link in links):
            found.append(pid)
    return found


async def test_an_array_there_and_back_is_one_segment_which_is_used_again(tmp_path: Path) -> None:
    sent = np.arange(MIB // 4, dtype=np.float32).reshape(512, -1)
    async with arrays(tmp_path) as orchestrator:
        assert await orchestrator.call("a.tell", sent) == [False, False]
        for _ in range(5):
            got = await orchestrator.call("a.echo", sent)
            assert got.dtype == sent.dtype
            assert np.array_equal(got, sent)
            assert accounts(orchestrator).in_use == 1
            with pytest.raises(ValueError, match="read-only"):
                got[0, 0] = 1
            del got
            await all_let_go(orchestrator)
        assert len(accounts(orchestrator)) <= 2  # the loop lets go of a future only when its task waits again


async def test_small_ones_and_those_that_numpy_alone_can_have_go_as_before(tmp_path: Path) -> None:
    async with arrays(tmp_path) as orchestrator:
        small = np.zeros(LEAST - 1, np.uint8)
        assert np.array_equal(await orchestrator.call("a.echo", small), small)
        assert len(accounts(orchestrator)) == 0
        with pytest.raises(InvalidArgument, match="dtype object"):
            await orchestrator.call("a.echo", np.full(LEAST, None))
        # The one before it was copied already.
        with pytest.raises(InvalidArgument, match="dtype object"):
            await orchestrator.call("a.add", np.zeros(LEAST), np.full(LEAST, None))
        assert accounts(orchestrator).in_use == 0
        for odd in [
            np.asfortranarray(np.arange(LEAST, dtype=">i4").reshape(64, -1)),
            np.zeros(LEAST, [("x", "<f4"), ("tag", "S3")]),
            np.arange(LEAST)[::-2],
            np.full(LEAST, "né"),
        ]:
            got = await orchestrator.call("a.echo", odd)
            assert np.array_equal(got, odd)
            del got
            await all_let_go(orchestrator)


async def test_a_result_that_is_passed_on_is_not_copied(tmp_path: Path) -> None:
    sent = np.arange(MIB, dtype=np.uint8)
    async with arrays(tmp_path) as orchestrator:
        got = await orchestrator.call("a.echo", sent)
        got = await orchestrator.call("b.echo", got)
        got = await orchestrator.call("a.ask", "b.echo", got)
        got = await orchestrator.call("a.ask_later", "b.echo", got)
        assert len(accounts(orchestrator)) == accounts(orchestrator).in_use == 1
        piece = await orchestrator.call("a.part", got, 64 * KIB, 256 * KIB)
        assert np.array_equal(piece, sent[64 * KIB : 256 * KIB])
        assert np.shares_memory(piece, got)
        del got
        assert accounts(orchestrator).in_use == 1
        assert np.array_equal(piece, sent[64 * KIB : 256 * KIB])
        # Not on the boundary that a receiver may rely on: this is copied.
        odd = await orchestrator.call("a.part", piece, 1, 160 * KIB)
        assert np.array_equal(odd, sent[64 * KIB + 1 : 224 * KIB])
        assert not np.shares_memory(odd, piece)
        fresh = await orchestrator.call("a.ask_later", "b.later", sent)
        assert np.array_equal(fresh, sent + 1)


async def test_workers_let_go_of_what_their_calls_brought(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path) as orchestrator:
        assert await orchestrator.call("a.ask_often", "b.later", sent, 50) == 100
        await until(lambda: accounts(orchestrator).in_use == 0, "all is let go of")
        assert len(accounts(orchestrator)) <= 6


async def test_a_new_result_gets_room(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.float32)
    async with arrays(tmp_path, concurrency=4) as orchestrator:
        got = await orchestrator.call("a.add", sent, 1)
        assert np.array_equal(got, sent + 1)
        assert accounts(orchestrator).in_use == 1
        both = await asyncio.gather(*(orchestrator.call("a.later", sent) for _ in range(8)))
        assert all(np.array_equal(one, got) for one in both)
        assert accounts(orchestrator).in_use == 9
        del got, both
        await all_let_go(orchestrator)
        found = await orchestrator.map("a.together", [sent, sent + 1, sent + 2])
        assert [float(one[0]) for one in found] == [2, 3, 4]
        many = await orchestrator.call("a.many", 5, LEAST_ROOM)
        assert [int(one[-1]) for one in many["arrays"]] == [0, 1, 2, 3, 4]
        assert accounts(orchestrator).in_use == 8
        del found, many
        await all_let_go(orchestrator)


async def test_the_items_of_a_stream_go_in_messages(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path) as orchestrator:
        items = [int(item[0]) async for item in orchestrator.stream("a.each", sent, 3)]
        assert items == [1, 2, 3]
        assert len(accounts(orchestrator)) == 1


async def test_a_service_may_do_without(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path, shared_memory=False) as orchestrator:
        assert np.array_equal(await orchestrator.call("a.add", sent, 1), sent + 1)
        assert len(accounts(orchestrator)) == 0


@pytest.mark.parametrize("most", [0, MIB, 3 * MIB])
async def test_where_there_is_no_room_arrays_go_in_messages(tmp_path: Path, most: int) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path, SegmentPool(most_bytes=most)) as orchestrator:
        kept = [await orchestrator.call("a.add", sent, number) for number in range(5)]
        assert [int(one[0]) for one in kept] == [1, 2, 3, 4, 5]
        assert accounts(orchestrator).bytes <= most


def test_no_memory_for_a_segment_means_no_segment(tmp_path: Path) -> None:
    script = """
        import asyncio, resource, signal
        import numpy as np
        from mlports.runtime.segments import SegmentPool

        async def main():
            pool = SegmentPool()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            assert pool.copy(np.ones(1 << 21, np.uint8).data) is None
            assert len(pool.accounts) == 0
            assert pool.copy(np.ones(1 << 19, np.uint8).data) is not None
            pool.close()

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True)


async def test_nobody_can_cut_a_segment_short(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path) as orchestrator:
        assert set(await orchestrator.call("a.cut", sent)) == {1}  # EPERM
    segment = Segment(0, 4096)
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.descriptor, size)
    segment.close()


async def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path, restart="temporary") as orchestrator:

        def replica() -> dict[str, Any]:
            found: dict[str, Any] = orchestrator.status()["services"]["a"]["replicas"][0]
            return found

        calls = [orchestrator.call("a.hold", sent, str(tmp_path / "held")) for _ in range(4)]
        nested = orchestrator.call("b.ask", "a.echo", sent)
        await until(lambda: marks(tmp_path / "held"), "a worker has them")
        await until(lambda: replica()["in_flight"] == 5, "all are sent, and so is what b asks of a")
        os.kill(replica()["pid"], signal.SIGKILL)
        for outcome in await asyncio.gather(*calls, nested, return_exceptions=True):
            assert isinstance(outcome, CallError)
        del outcome, calls, nested
        await all_let_go(orchestrator)


async def test_a_result_outlives_the_orchestrator(tmp_path: Path) -> None:
    sent = np.arange(MIB, dtype=np.uint8)
    async with arrays(tmp_path) as orchestrator:
        got = await orchestrator.call("a.echo", sent)
    assert np.array_equal(got, sent)
    pool = orchestrator._segments
    assert pool is not None
    assert len(pool.accounts) == 1
    del got
    assert len(pool.accounts) == 0


async def test_thousands_of_echoes_leave_as_much_as_one(tmp_path: Path) -> None:
    async with arrays(tmp_path) as orchestrator:
        sizes = [LEAST + step * 4096 for step in range(0, 48, 3)]
        sent = [np.full(size, number, np.uint8) for number, size in enumerate(sizes)]
        for _ in range(3):
            await asyncio.gather(*(orchestrator.call("a.echo", one) for one in sent))
        descriptors, held = len(os.listdir("/proc/self/fd")), await orchestrator.call("a.descriptors")
        for _ in range(125):
            got = await asyncio.gather(*(orchestrator.call("a.echo", one) for one in sent))
            assert all(int(one[-1]) == number for number, one in enumerate(got))
        del got
        await all_let_go(orchestrator)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2 * 16 + 8  # two rounds at most are under way
        assert await orchestrator.call("a.descriptors") <= held + 64


def test_the_blocking_orchestrator_shares_too(tmp_path: Path) -> None:
    command = program(tmp_path, "import numpy as np\n" + dedent(WORKER))
    sent = np.arange(MIB, dtype=np.uint8)
    with mlports.open({"a": ServiceConfig(command=command)}) as orchestrator:
        for _ in range(20):
            assert np.array_equal(orchestrator.call("a.echo", sent), sent)


def test_an_orchestrator_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    command = program(tmp_path, "import numpy as np\n" + dedent(WORKER))
    script = f"""
        import asyncio
        import numpy as np
        from mlports import Orchestrator, ServiceConfig

        async def main():
            async with Orchestrator(services={{"a": ServiceConfig(command={command!r})}}) as orchestrator:
                got = await orchestrator.call("a.echo", np.ones(1 << 20))
                orchestrator.call("a.hold", got, {str(tmp_path / "held")!r})
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    host = subprocess.Popen([sys.executable, "-c", dedent(script)])
    try:
        until_blocking(lambda: marks(tmp_path / "held"), "the worker has it")
        # Its own and its worker's: other tests that run at the same time have some too.
        family = {pid for pid in mappings_and_descriptors() if host.pid in (int(pid), _parent_of(pid))}
        assert len(family) >= 2
    finally:
        host.kill()
        host.wait()
    until_blocking(lambda: not family & set(mappings_and_descriptors()), "nobody has anything of it")
    assert not [name for name in os.listdir("/dev/shm") if str(host.pid) in name]


def _parent_of(pid: str) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return -1  # it has ended


# -- workers that break the rules

RAW = """
import os, struct, sys
import msgpack

def read():
    head = os.read(0, 4)
    if not head:
        sys.exit(0)
    size, body = struct.unpack(">I", head)[0], b""
    while len(body) < size:
        body += os.read(0, size - len(body))
    return msgpack.unpackb(body)

def say(*message):
    body = msgpack.packb(list(message))
    os.write(1, struct.pack(">I", len(body)) + body)

def ask(number, nbytes):
    say(0, number, "$/segment", [nbytes])
    while (answer := read())[:2] != [1, number]:
        pass
    return answer

def shared(segment, offset, nbytes, dtype="|u1", shape=None):
    said = [segment, offset, nbytes, dtype, [nbytes] if shape is None else shape]
    return msgpack.ExtType(2, msgpack.packb(said))

def write(segment, data):
    descriptor = os.open(segment, os.O_RDWR)
    os.pwrite(descriptor, data, 0)
    os.close(descriptor)

hello = read()
probe = hello[3][0]["shm"]["segment"]
methods = ["f", "g"]
say(1, 0, None, {"protocol": 1, "name": "raw", "methods": methods, "features": ["ndarray", "shm"]})
brought = None
while True:
    kind, number, method, params = read()[:4]
    if params:
        brought = msgpack.unpackb(params[0].data)
    if method == "g":
        say(1, number, None, None)
        continue
    result = None
"""

SIZE = 256 * KIB


@asynccontextmanager
async def raw(directory: Path, body: str) -> AsyncIterator[Orchestrator]:
    path = directory / "raw.py"
    path.write_text(
        RAW + "".join(f"    {line}\n" for line in dedent(body).splitlines()) + "    say(1, number, None, result)\n"
    )
    config = ServiceConfig(command=[sys.executable, str(path)], retries=0)
    async with Orchestrator(services={"raw": config}) as orchestrator:
        yield orchestrator


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("result = shared('/proc/1/fd/5', 0, 64)", "segment /proc/1/fd/5, which this worker was not given"),
        ("result = shared(probe, 0, 16)", "was not given"),
        ("result = shared('/etc/passwd', 0, 64)", "is a path like /proc/PID/fd/N, not '/etc/passwd'"),
        ("result = shared('/proc/self/fd/5', 0, 64)", "is a path like"),
        ("result = shared(5, 0, 64)", "is a path like"),
        ("result = shared(brought[0], 64, 1 << 40)", "bytes at 64 in the segment"),
        ("result = shared(brought[0], 1 << 62, 64)", "at 4611686018427387904 in the segment"),
        ("result = shared(brought[0], 32, 64)", "offset is a multiple of 64 from 0, not 32"),
        ("result = shared(brought[0], -64, 64)", "not -64"),
        ("result = shared(brought[0], 0.0, 64)", "not 0.0"),
        ("result = shared(brought[0], 0, 0)", "number of bytes from 1, not 0"),
        ("result = shared(brought[0], 0, 64, '|O')", "dtype"),
        ("result = shared(brought[0], 0, 64, '<f4', [17])", "has 68 bytes of elements, not 64"),
        ("result = shared(brought[0], 0, 64, '<f4', [-16])", "shape is an array of integers from 0"),
        ("result = msgpack.ExtType(2, msgpack.packb(brought[:4]))", "is [segment, offset, nbytes, dtype, shape]"),
        ("result = msgpack.ExtType(2, msgpack.packb(brought) + b'x')", "extra data"),
        ("result = shared(ask(7, 4096)[3][0], 0, 8192)", "which has 4096"),
        ("result = shared(ask(7, 65536)[3][0], 0, 65536)", "as room and never wrote to"),
        ("r = ask(7, 64)[3][0]; write(r, bytes(64)); result = [shared(r, 0, 64)] * 2", "has no more"),
        ("say(2, '$/release', ['/proc/1/fd/5'])", "$/release of the segment /proc/1/fd/5"),
        ("say(2, '$/release', [brought[0]])", "$/release of the segment"),
        ("say(2, '$/release', [])", "$/release has at least 1 params"),
        ("say(2, 'raw.g', [msgpack.ExtType(2, msgpack.packb(brought))])", "in the notification 'raw.g'"),
    ],
)
async def test_a_worker_that_names_what_it_was_not_given_is_killed(tmp_path: Path, body: str, said: str) -> None:
    async with raw(tmp_path, body) as orchestrator:
        with pytest.raises(ProtocolViolation) as caught:
            await orchestrator.call("raw.f", np.ones(SIZE, np.uint8))
        assert said in str(caught.value)
        assert caught.value.verdict is not None
        assert caught.value.verdict.cause == "protocol"
        del caught
        await until(lambda: accounts(orchestrator).in_use == 0, "it has nothing any more")


async def test_what_an_earlier_request_brought_may_not_be_named(tmp_path: Path) -> None:
    async with raw(tmp_path, "result = msgpack.ExtType(2, msgpack.packb(brought))") as orchestrator:
        await orchestrator.call("raw.g", np.ones(SIZE, np.uint8))
        with pytest.raises(ProtocolViolation, match="has no more"):
            await orchestrator.call("raw.f")


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("1 << 60", "resource_exhausted"),
        ("0", "invalid_argument"),
        ("-1", "invalid_argument"),
        ("'x'", "invalid_argument"),
        ("1.0", "invalid_argument"),
        ("True", "invalid_argument"),
    ],
)
async def test_room_that_cannot_be_given_is_refused(tmp_path: Path, size: str, code: str) -> None:
    async with raw(tmp_path, f"result = ask(7, {size})[2]") as orchestrator:
        error = await orchestrator.call("raw.f")
        assert error["code"] == code
        if size == "1 << 60":
            assert "no room for 1152921504606846976 bytes" in error["message"]
        assert len(accounts(orchestrator)) == 0


async def test_room_is_the_workers_until_it_is_sent_released_or_dead(tmp_path: Path) -> None:
    body = """
    rooms = [ask(7, 1 << 20)[3][0] for _ in range(3)]
    say(2, "$/release", [rooms[0]])
    write(rooms[1], b"a" * 64)
    result = shared(rooms[1], 0, 64)
    """
    async with raw(tmp_path, body) as orchestrator:
        got = await orchestrator.call("raw.f")
        assert bytes(got) == b"a" * 64
        assert accounts(orchestrator).in_use == 2
        del got
        await until(lambda: accounts(orchestrator).in_use == 1, "the room that is left")
        os.kill(orchestrator.status()["services"]["raw"]["replicas"][0]["pid"], signal.SIGKILL)
        await until(lambda: accounts(orchestrator).in_use == 0, "it has nothing any more")


async def test_what_was_idle_for_some_seconds_is_given_back(tmp_path: Path) -> None:
    sent = np.ones(MIB, np.uint8)
    async with arrays(tmp_path) as orchestrator:
        kept = await orchestrator.call("a.echo", sent)
        await orchestrator.call("a.tell", sent)
        pool = orchestrator._segments
        assert pool is not None
        await until(lambda: len(pool.accounts) == 1, "the one that nobody has is closed")
        assert np.array_equal(kept, sent)
        del kept
        await until(lambda: len(pool.accounts) == 0, "the other is closed")


async def test_a_worker_that_cannot_open_segments_does_without(tmp_path: Path) -> None:
    # As in another container: what is open there under this number is something else.
    elsewhere = """
        @worker.setup
        def move(config):
            os.open = lambda path, *rest, real=os.open: real("/dev/zero" if path.startswith("/proc") else path, *rest)
    """
    command = program(tmp_path, dedent(elsewhere) + "@worker.method\ndef echo(x):\n    return x\n")
    async with Orchestrator(services={"a": ServiceConfig(command=command)}) as orchestrator:
        sent = np.ones(SIZE, np.uint8)
        assert np.array_equal(await orchestrator.call("a.echo", sent), sent)
        assert len(accounts(orchestrator)) == 0
