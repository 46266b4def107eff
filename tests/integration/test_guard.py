"""The guard: nothing survives an orchestrator, however it dies, and nothing else is touched."""

from __future__ import annotations

import asyncio
import os
import py_compile
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlports.runtime import guard as guard_module
from mlports.runtime import guard_program
from mlports.runtime.guard import Guard
from mlports.telemetry import EventLog
from tests.workers import until, until_blocking

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists() or not hasattr(os, "pidfd_open"), reason="needs Linux: /proc and pidfds"
)

PROGRAM = guard_program.__file__
MOST_MEMORY = 10 * 1024  # KiB
SOON = 2.0  # seconds
SLEEP = ["sleep", "1000"]

# An orchestrator's place is taken by this. It tells by lines what there is: a word, and a pid.
ORCHESTRATOR = """
import asyncio, os, signal, subprocess, sys
from mlports.runtime.guard import Guard
from mlports.telemetry import EventLog

def tell(what, pid):
    os.write(1, f"{what} {pid or 0}\\n".encode())

async def main(mode, *scripts):
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    events = EventLog()
    guard = Guard(events)
    events.listen(lambda event: tell(event["event"], guard.pid))
    guard.start()
    tell("guard", guard.pid)
    children = []
    for script in scripts:
        env = {**os.environ, **guard.environment}
        children.append(subprocess.Popen(["/bin/sh", "-c", script], env=env, start_new_session=True))
        guard.add(children[-1].pid)
    if mode != "wait":
        pid = os.fork()
        if pid == 0:
            guard.close()  # it is its parent's, and so nothing happens
            tell("fork", os.getpid())
            signal.pause()
    if mode == "stop":
        await go.wait()
        await guard.stop()
        tell("stopped", guard.pid)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

NASTY = {
    "ignores": "trap '' TERM INT HUP; echo ignores $$; exec sleep 1000",
    "child": "sh -c 'echo child $$; exec sleep 1000' & wait",
    "session": "setsid sh -c 'echo session $$; exec sleep 1000' & wait",
    "daemon": "(setsid sh -c 'echo daemon $$; exec sleep 1000' &); exec sleep 1000",
    "orphan": "sh -c 'echo orphan $$; exec sleep 1000' & exit",
    "stopped": "echo stopped $$; kill -STOP $$",
    # Without the environment, it is the parent, or the group, or the pid alone that tells whose it is.
    "nameless-child": "env -i setsid sh -c 'echo nameless-child $$; exec sleep 1000' & wait",
    "nameless-orphan": "env -i sh -c 'echo nameless-orphan $$; exec sleep 1000' & exit",
    "nameless": "exec env -i sh -c 'echo nameless $$; exec sleep 1000'",
}
MANY = "for i in $(seq 50); do setsid sh -c 'echo one $$; exec sleep 1000' & done; wait"


class Ends:
    """The ends of processes that are somebody else's children, waited for without asking again and again."""

    def __init__(self) -> None:
        self._open: dict[int, str] = {}

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._open:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)

    def of(self, name: str, pid: int) -> None:
        """From now on the end of this process, which is alive, is waited for too."""
        self._open[os.pidfd_open(pid)] = name

    def wait(self, seconds: float) -> list[str]:
        """Who is still there after that time."""
        deadline = time.monotonic() + seconds
        while self._open and (left := deadline - time.monotonic()) > 0:
            for handle in select.select(list(self._open), [], [], left)[0]:
                os.close(handle)
                del self._open[handle]
        return list(self._open.values())


class StandIn:
    """A process that does with a `Guard` what an orchestrator does; it is killed at the end, if not before."""

    def __init__(self, mode: str, *scripts: str, environment: Mapping[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", ORCHESTRATOR, mode, *scripts],
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.popen.stdout is not None
        self.popen.stdout.close()

    def line(self) -> tuple[str, int]:
        """What it, or a process that it started, tells next."""
        assert self.popen.stdout is not None
        what, pid = self.popen.stdout.readline().split()
        return what.decode(), int(pid)

    def lines(self, count: int) -> dict[str, int]:
        return dict(self.line() for _ in range(count))

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def rest(self) -> bytes:
        """What else is told until nobody is left who could."""
        assert self.popen.stdout is not None
        return self.popen.stdout.read()


@contextmanager
def running(
    *command: str,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which is killed and collected in the end; what it tells goes into a pipe."""
    popen = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        user=user,
    )
    try:
        yield popen
    finally:
        popen.kill()
        popen.wait()
        assert popen.stdout is not None
        popen.stdout.close()


def started(pid: int) -> int:
    stat = guard_program.read_stat(pid)
    assert stat is not None
    return stat[3]


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def kib(pid: int, what: str = "VmRSS") -> int:
    return int(status_of(pid)[what].split()[0])


def is_up(pid: int | None) -> bool:
    """Whether the guard has come as far as to ignore SIGTERM."""
    return pid is not None and bool(int(status_of(pid)["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1)


def is_orphan(pid: int) -> bool:
    """Whether the leader of its session was its parent, and is dead."""
    return int(status_of(pid)["PPid"]) != os.getsid(pid)


@contextmanager
def guard_of(pid: int, token: str, *how: str, older: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The guard's program and the pipe to it, without an orchestrator's side; `pid` stands for the orchestrator, which
    the guard is told to have started `older` clock ticks before it did.
    """
    read, write = os.pipe()
    command = [*how, sys.executable, "-I", "-S", "-B", PROGRAM, token, str(pid), str(started(pid) - older)]
    popen = subprocess.Popen(command, stdin=read, start_new_session=True)
    os.close(read)
    try:
        yield popen, write
    finally:
        os.close(write)
        popen.wait()


# -- an orchestrator that is killed


def test_nothing_survives_and_nobody_else_is_touched() -> None:
    with (
        StandIn("wait", *NASTY.values()) as orchestrator,
        running(*SLEEP, environment={guard_program.VARIABLE: "0" * 32}) as other_token,
        running(*SLEEP) as neighbour,
        Ends() as ends,
    ):
        pids = orchestrator.lines(1 + len(NASTY))
        assert set(pids) == {"guard", *NASTY}
        for name, pid in pids.items():
            ends.of(name, pid)
        until_blocking(lambda: status_of(pids["stopped"])["State"].startswith("T"), "it is stopped")
        until_blocking(
            lambda: is_orphan(pids["orphan"]) and is_orphan(pids["nameless-orphan"]), "their parents are dead"
        )
        orchestrator.kill()
        assert ends.wait(SOON) == []
        assert orchestrator.rest() == b""
        assert other_token.poll() is None
        assert neighbour.poll() is None


def test_fifty_processes_are_gone_well_within_a_second() -> None:
    with StandIn("wait", MANY) as orchestrator, Ends() as ends:
        for _ in range(51):
            ends.of(*orchestrator.line())
        orchestrator.kill()
        assert ends.wait(1.0) == []


def test_a_child_that_forked_does_not_hide_the_death() -> None:
    with StandIn("fork", NASTY["ignores"]) as orchestrator, Ends() as ends, Ends() as fork:
        pids = orchestrator.lines(3)
        fork.of("fork", pids.pop("fork"))
        for name, pid in pids.items():
            ends.of(name, pid)
        orchestrator.kill()
        assert ends.wait(SOON) == []
        assert fork.wait(0) == ["fork"]


def test_nor_does_it_hide_an_orderly_end() -> None:
    with StandIn("stop", NASTY["ignores"]) as orchestrator, Ends() as fork:
        fork.of("fork", orchestrator.lines(3)["fork"])
        orchestrator.popen.send_signal(signal.SIGUSR1)
        assert orchestrator.line() == ("stopped", 0)
        assert fork.wait(0) == ["fork"]


def test_a_killed_guard_is_replaced_and_the_new_one_knows_all() -> None:
    with StandIn("wait", NASTY["nameless"], NASTY["nameless-orphan"]) as orchestrator, Ends() as ends:
        pids = orchestrator.lines(3)
        guard = pids.pop("guard")
        os.kill(guard, signal.SIGKILL)
        what, new = orchestrator.line()
        assert what == "guard_restarted"
        assert new not in (0, guard)
        for name, pid in {**pids, "guard": new}.items():
            ends.of(name, pid)
        orchestrator.kill()
        assert ends.wait(SOON) == []


def test_an_orchestrator_within_a_worker_ends_with_all_its_own() -> None:
    token = "1" * 32
    with ExitStack() as stack:
        outer = stack.enter_context(running(*SLEEP))
        guard, _ = stack.enter_context(guard_of(outer.pid, token))
        inner = stack.enter_context(
            StandIn("wait", NASTY["daemon"], NASTY["nameless-orphan"], environment={guard_program.VARIABLE: token})
        )
        ends = stack.enter_context(Ends())
        for name, pid in inner.lines(3).items():
            ends.of(name, pid)
        outer.kill()
        outer.wait()
        assert guard.wait(SOON) == 0
        assert ends.wait(SOON) == []
        assert inner.popen.wait(SOON) == -signal.SIGKILL


# -- the program by itself


def test_a_pid_that_was_given_anew_is_not_killed() -> None:
    with ExitStack() as stack:
        ours = stack.enter_context(running(*SLEEP))
        old = stack.enter_context(running("sh", "-c", f"{' '.join(SLEEP)} & echo $!; wait"))
        orchestrator = stack.enter_context(running(*SLEEP))
        new = stack.enter_context(running("sh", "-c", f"{' '.join(SLEEP)} & echo $!; wait"))
        forgotten = stack.enter_context(running(*SLEEP))
        guard, pipe = stack.enter_context(guard_of(orchestrator.pid, "1" * 32))
        ends = stack.enter_context(Ends())
        for popen in (old, new):
            assert popen.stdout is not None
            ends.of("child", int(popen.stdout.readline()))
        lines = [(ours, 0), (old, -1), (new, -1), (forgotten, 0)]
        for popen, wrong in lines:
            os.write(pipe, b"+%d %d\nnonsense\n+" % (popen.pid, started(popen.pid) + wrong))
            os.write(pipe, b"\n")
        os.write(pipe, b"-%d\n" % forgotten.pid)
        orchestrator.kill()
        orchestrator.wait()
        assert guard.wait(SOON) == 0
        assert ours.wait(0) == -signal.SIGKILL
        assert [popen.poll() for popen in (old, new, forgotten)] == [None, None, None]
        assert ends.wait(0) == ["child", "child"]


@pytest.mark.parametrize("end", ["its death", "the pipe's end", "its word"])
def test_every_end_is_seen_without_a_standard_error(end: str) -> None:
    token = "1" * 32
    with (
        running(*SLEEP) as orchestrator,
        running(*SLEEP, environment={guard_program.VARIABLE: token}) as worker,
        guard_of(orchestrator.pid, token, "sh", "-c", 'exec "$@" >&- 2>&-', "sh") as (guard, pipe),
    ):
        until_blocking(lambda: is_up(guard.pid), "it is up")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            guard.send_signal(number)
        assert worker.poll() is None
        if end == "its death":
            orchestrator.kill()
        elif end == "its word":
            os.write(pipe, b".\n")
        else:
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), pipe)
        assert guard.wait(SOON) == 0
        assert worker.wait(0) == -signal.SIGKILL


def test_an_orchestrator_that_was_dead_before_is_seen_too() -> None:
    token = "1" * 32
    with running(*SLEEP) as orchestrator, running(*SLEEP, environment={guard_program.VARIABLE: token}) as worker:
        # The child that became the guard's program had no time to look before its parent died.
        kills_first = ("sh", "-c", 'kill -9 "$0"; exec "$@"', str(orchestrator.pid))
        with guard_of(orchestrator.pid, token, *kills_first) as (guard, _):
            orchestrator.wait()
            assert guard.wait(SOON) == 0
        assert worker.wait(0) == -signal.SIGKILL


def test_nor_is_another_with_its_pid_taken_for_it() -> None:
    token = "1" * 32
    with (
        running(*SLEEP) as stranger,
        running(*SLEEP, environment={guard_program.VARIABLE: token}) as worker,
        guard_of(stranger.pid, token, older=1) as (guard, _),
    ):
        assert guard.wait(SOON) == 0
        assert worker.wait(0) == -signal.SIGKILL
        assert stranger.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' processes")
def test_what_is_another_users_is_left_alone() -> None:
    token = "1" * 32
    with (
        running(*SLEEP) as orchestrator,
        running(*SLEEP, environment={guard_program.VARIABLE: token}, user=65534) as others,
        guard_of(orchestrator.pid, token) as (guard, _),
    ):
        orchestrator.kill()
        assert guard.wait(SOON) == 0
        assert others.poll() is None


def test_where_there_is_no_proc_the_groups_are_ended() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(PROGRAM).parent)!r})
import guard_program
guard_program.sweep_groups({{int(pid): 0 for pid in sys.argv[1:]}})
"""
    with running("sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait") as worker, Ends() as ends:
        assert worker.stdout is not None
        ends.of("child", int(worker.stdout.readline()))
        command = [sys.executable, "-I", "-S", "-B", "-c", program, str(worker.pid), str(2**22 + 1)]
        with subprocess.Popen(command) as sweeping:
            assert worker.wait(SOON) == -signal.SIGKILL
            assert ends.wait(SOON) == []
            sweeping.kill()  # it waits for init to collect the child, which need not be soon


def test_where_there_are_no_pidfds_it_asks_once_a_second() -> None:
    token = "1" * 32
    without = (
        "import posix, runpy, sys; del posix.pidfd_open; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = '"$@" $$ 0 <&3 & echo $!; exec sleep 1000'
    command = ["sh", "-c", "exec 3<&0; " + script, "sh", sys.executable, "-c", without, PROGRAM, token]
    read, write = os.pipe()
    with (
        open(read, "rb") as ours,
        open(write, "wb"),
        running(*command, stdin=ours.fileno()) as orchestrator,
        running(*SLEEP, environment={guard_program.VARIABLE: token}) as worker,
        Ends() as ends,
    ):
        assert orchestrator.stdout is not None
        guard = int(orchestrator.stdout.readline())
        ends.of("guard", guard)
        until_blocking(lambda: is_up(guard), "it is up")
        orchestrator.kill()
        orchestrator.wait()
        assert ends.wait(1.0 + SOON) == []
        assert worker.wait(0) == -signal.SIGKILL


def test_a_sweep_through_everything_takes_little_memory(tmp_path: Path) -> None:
    py_compile.compile(PROGRAM, str(tmp_path / "guard_program.pyc"), doraise=True)
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import guard_program
guard_program.sweep("1" * 32, guard_program.Registry(), 1, 0)
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
    told = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", program], stdout=subprocess.PIPE, check=True)
    assert int(told.stdout) < MOST_MEMORY


# -- the orchestrator's side

Scene = Callable[[Guard, EventLog], Awaitable[None]]


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    loops: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
    if find_spec("uvloop"):
        import uvloop

        loops.append(uvloop.new_event_loop)
    return loops


@pytest.fixture(params=_loops(), ids=lambda loop: loop.__module__.split(".")[0])
def play(request: pytest.FixtureRequest) -> Callable[[Scene], tuple[Guard, EventLog]]:
    """Runs a scene with a started guard in an event loop of each kind; gives the guard when the loop is closed."""

    def run(scene: Scene) -> tuple[Guard, EventLog]:
        events = EventLog()
        guard = Guard(events)

        async def main() -> None:
            guard.start()
            await scene(guard, events)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())
        return guard, events

    return run


Play = Callable[[Scene], tuple[Guard, EventLog]]


async def killed(guard: Guard) -> int:
    """Kills the guard's process, and returns its pid when that was noticed."""
    pid = guard.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: guard.pid != pid, "its death was seen")
    return pid


def names(events: EventLog) -> list[str]:
    return [event["event"] for event in events.recent]


def test_it_is_small_and_stops_with_what_is_left(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        with (
            running(*SLEEP, environment=guard.environment) as worker,
            running(*SLEEP) as removed,
            running(*SLEEP) as named,
        ):
            guard.add(removed.pid)
            guard.add(named.pid)
            guard.remove(removed.pid)
            guard.remove(1)
            await until(lambda: is_up(guard.pid), "it is up")
            assert guard.pid is not None
            assert kib(guard.pid) < MOST_MEMORY
            assert status_of(guard.pid)["Name"] == "mlports-guard"
            assert status_of(guard.pid)["Threads"] == "1"
            assert os.getsid(guard.pid) == guard.pid
            await guard.stop()
            assert guard.pid is None
            assert worker.wait(0) == named.wait(0) == -signal.SIGKILL
            assert removed.poll() is None
        await guard.stop()
        guard.close()
        guard.add(os.getpid())
        guard.remove(os.getpid())
        assert names(events) == []

    play(scene)


def test_two_may_stop_it_at_once(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        await asyncio.gather(guard.stop(), guard.stop())
        assert guard.pid is None
        assert names(events) == []

    play(scene)


def test_it_may_be_dead_before_it_is_stopped(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGKILL)
        guard.add(os.getpid())
        await guard.stop()
        assert guard.pid is None
        assert names(events) == []

    play(scene)


def test_a_stop_that_is_cancelled_leaves_nothing(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        task = asyncio.create_task(guard.stop())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert guard.pid is None

    play(scene)


def test_one_that_does_not_end_is_killed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_PATIENCE", 0.1)

    async def scene(guard: Guard, events: EventLog) -> None:
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGSTOP)
        await guard.stop()
        assert guard.pid is None

    play(scene)


@pytest.mark.parametrize("stopped", [False, True])
def test_it_is_closed_when_the_loop_is_gone(play: Play, stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_PATIENCE", 0.1 if stopped else 5.0)

    async def scene(guard: Guard, events: EventLog) -> None:
        if stopped:
            assert guard.pid is not None
            os.kill(guard.pid, signal.SIGSTOP)

    guard, _ = play(scene)
    with running(*SLEEP, environment=guard.environment) as worker:
        guard.close()
        assert guard.pid is None
        assert worker.poll() == (None if stopped else -signal.SIGKILL)
    guard.close()


def test_it_is_closed_within_the_loop(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        guard.close()
        assert guard.pid is None
        await guard.stop()

    play(scene)


def test_a_guard_that_does_not_read_holds_nobody_up_and_learns_all_later(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGSTOP)
        with running(*SLEEP) as worker, running(*SLEEP) as removed:
            guard.add(removed.pid)
            began = time.monotonic()
            for _ in range(5000):  # more than any pipe holds
                guard.add(worker.pid)
                guard.remove(worker.pid)
            guard.remove(removed.pid)
            guard.add(worker.pid)
            assert time.monotonic() - began < SOON
            os.kill(guard.pid, signal.SIGCONT)
            await guard.stop()
            assert worker.wait(0) == -signal.SIGKILL
            assert removed.poll() is None

    play(scene)


def test_one_that_dies_too_often_is_given_up(play: Play) -> None:
    async def scene(guard: Guard, events: EventLog) -> None:
        for _ in range(6):
            pid = await killed(guard)
        assert guard.pid is None
        assert names(events) == ["guard_restarted"] * 5 + ["guard_lost"]
        lost = events.recent[-1]["text"]
        assert f"the guard process {pid} was ended by SIGKILL, more often than 5 times within 10 s" in lost
        assert "If this orchestrator is killed from now on, its workers" in lost
        guard.add(os.getpid())
        guard.remove(os.getpid())
        await guard.stop()
        guard.close()

    play(scene)


def test_one_that_cannot_be_started_is_an_event(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def scene(guard: Guard, events: EventLog) -> None:
        assert guard.pid is None
        assert names(events) == ["guard_lost"]
        assert (
            "could not be started: [Errno 2] No such file or directory: '/nowhere/python'" in events.recent[0]["text"]
        )
        guard.add(os.getpid())
        await guard.stop()

    play(scene)


def test_without_pidfds_a_thread_sees_it_die(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    async def scene(guard: Guard, events: EventLog) -> None:
        await killed(guard)
        assert names(events) == ["guard_restarted"]
        await guard.stop()
        assert guard.pid is None

    play(scene)


def test_without_pidfds_it_is_closed_when_the_loop_is_gone(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    async def scene(guard: Guard, events: EventLog) -> None:
        assert guard.pid is not None

    guard, _ = play(scene)
    guard.close()
    assert guard.pid is None
