"""`mlports.open()`: the same orchestrator for programs without an event loop, from any thread."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import mlports
from mlports import (
    BlockingOrchestrator,
    Config,
    DeadlineExceeded,
    NotRunning,
    PipelineConfig,
    ProgramConfig,
    ServiceConfig,
    StartFailed,
    SupervisorConfig,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
)
from mlports.core.supervision import ChildStarted, Counts, Done, Running
from tests.workers import PATIENCE, marks, program, until_blocking

DESK = """
noted = []

@worker.method(idempotent=True)
def echo(x):
    return x

@worker.method
def pid():
    return os.getpid()

@worker.method
def note(x):
    noted.append(x)

@worker.method
def notes():
    return noted

@worker.method
def divide(x, y):
    return x / y

@worker.method
def naps(seconds):
    time.sleep(seconds)
    return seconds

@worker.method
def logs(text):
    worker.log("info", text)

@worker.method
def reports(steps):
    for step in range(steps):
        current().progress(step, steps, "")
    return steps

@worker.method
def numbers(n):
    yield from range(n)

@worker.method
def watched(place, n):
    try:
        for number in range(n):
            yield number
    finally:
        mark(place + "/ended")

@worker.method
def breaks():
    yield 1
    raise ValueError("no more")

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")
    return "held"
"""


@pytest.fixture(scope="module")
def orch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingOrchestrator]:
    command = program(tmp_path_factory.mktemp("programs"), DESK, "desk")
    services = {"desk": ServiceConfig(command=command), "pair": ServiceConfig(command=command, replicas=2)}
    with mlports.open(services) as orchestrator:
        yield orchestrator


def desk(directory: Path) -> dict[str, ServiceConfig]:
    """Services of one's own, for a test that ends them."""
    return {"desk": ServiceConfig(command=program(directory, DESK, "desk"))}


def in_thread(function: Callable[[], Any]) -> Any:
    """What `function` gives in a thread other than the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(PATIENCE)


# The same from every thread.


def use_everything(orch: BlockingOrchestrator) -> None:
    """Every method once; asserts what each gives."""
    assert orch.call("pair.echo", 1) == 1
    assert orch.call("pair.echo", 1, timeout=5) == 1
    with pytest.raises(WorkerError, match="division by zero"):
        orch.call("pair.divide", 1, 0)
    with pytest.raises(UnknownMethod):
        orch.call("pair.nothing")
    with pytest.raises(UnknownService):
        orch.call("nothing.echo")
    with pytest.raises(DeadlineExceeded):
        orch.call("pair.echo", 1, timeout=0)
    assert orch.map("pair.echo", range(500)) == list(range(500))
    assert orch.map("pair.echo", (n for n in range(5))) == list(range(5))
    outcomes = orch.map("pair.divide", [1], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [mlports.InvalidArgument]
    assert list(orch.stream("pair.numbers", 40)) == list(range(40))
    orch.cast("pair.note", 1)
    with pytest.raises(UnknownMethod):
        orch.cast("pair.nothing")
    assert orch.status()["services"]["pair"]["state"] == "up"
    assert all("time" in event for event in first(orch.events(recent=True), 5))


def first(items: Iterator[Any], count: int) -> list[Any]:
    """The first of them; the rest is not waited for."""
    found = [next(items) for _ in range(count)]
    items.close()  # type: ignore[attr-defined]  # a generator
    return found


def test_from_the_main_thread(orch: BlockingOrchestrator) -> None:
    for _ in range(3):
        use_everything(orch)


def test_from_another_thread(orch: BlockingOrchestrator) -> None:
    in_thread(lambda: use_everything(orch))
    use_everything(orch)


def test_from_several_threads_at_once(orch: BlockingOrchestrator) -> None:
    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(use_everything, orch) for _ in range(18)]:
            future.result(PATIENCE)
        use_everything(orch)


def test_each_of_many_threads_gets_its_own_answers(orch: BlockingOrchestrator) -> None:
    def caller(name: int) -> None:
        for number in range(200):
            assert orch.call("pair.echo", [name, number], timeout=PATIENCE) == [name, number]

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(caller, name) for name in range(8)]:
            future.result(30)


def test_threads_come_and_go(orch: BlockingOrchestrator) -> None:
    for number in range(30):
        assert in_thread(partial(orch.call, "pair.echo", number)) == number
        assert orch.call("pair.echo", number) == number


def test_one_threads_long_call_holds_up_no_other(orch: BlockingOrchestrator, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(orch.call, "pair.hold", str(tmp_path))
        until_blocking((tmp_path / "at-work").exists, "it is at work")
        for number in range(50):
            assert orch.call("pair.echo", number, timeout=5) == number
        assert not held.done()
        (tmp_path / "go-on").touch()
        assert held.result(PATIENCE) == "held"


def test_progress(orch: BlockingOrchestrator) -> None:
    heard: list[float] = []
    assert orch.call("desk.reports", 3, progress=lambda done, total, text: heard.append(done)) == 3
    assert heard == [0, 1, 2]


def test_casts_arrive_before_what_follows(orch: BlockingOrchestrator) -> None:
    for number in range(10):
        orch.cast("desk.note", number)
    assert orch.call("desk.notes")[-10:] == list(range(10))


# Streams and events.


def test_a_stream(orch: BlockingOrchestrator, tmp_path: Path) -> None:
    assert list(orch.stream("desk.watched", str(tmp_path), 500)) == list(range(500))
    assert marks(tmp_path / "ended")


@pytest.mark.parametrize("how", ["break", "close"])
def test_leaving_a_stream_early_ends_it(orch: BlockingOrchestrator, how: str, tmp_path: Path) -> None:
    stream = orch.stream("desk.watched", str(tmp_path), 1_000_000)
    if how == "break":
        for item in stream:
            if item == 40:
                break
        del stream
    else:
        assert next(stream) == 0
        stream.close()  # type: ignore[attr-defined]  # a generator
    until_blocking((tmp_path / "ended").exists, "the generator's finally ran")
    assert orch.call("desk.echo", 1) == 1


def test_a_stream_that_fails(orch: BlockingOrchestrator) -> None:
    stream = orch.stream("desk.breaks")
    assert next(stream) == 1
    with pytest.raises(WorkerError, match="no more"):
        next(stream)
    assert list(stream) == []


def test_streams_in_several_threads_and_calls_between_the_items(orch: BlockingOrchestrator, tmp_path: Path) -> None:
    def reader() -> list[int]:
        found = []
        for item in orch.stream("pair.watched", str(tmp_path), 100):
            found.append(item)
            if item % 25 == 0:
                assert orch.status()["state"] == "running"
        return found

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(reader) for _ in range(4)]:
            assert future.result(PATIENCE) == list(range(100))


def test_a_thread_may_follow_events_while_others_call(orch: BlockingOrchestrator) -> None:
    texts: list[str] = []
    follows = threading.Event()

    def follow() -> None:
        for event in orch.events(recent=True):
            follows.set()
            if event["event"] == "log" and event.get("service") == "desk":
                texts.append(event["text"])
                if len(texts) == 20:
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    assert follows.wait(PATIENCE)
    for number in range(20):
        orch.call("desk.logs", f"line {number}")
    thread.join(PATIENCE)
    assert texts == [f"line {number}" for number in range(20)]


# While nobody calls.


def test_a_supervisors_children(tmp_path: Path) -> None:
    service = ServiceConfig(command=program(tmp_path, DESK, "desk"))
    with mlports.open(Config(service={"desk": service}, supervisor=SupervisorConfig(children=["desk"]))) as orch:
        root = orch.supervisor()
        (child,) = root.which_children().children
        assert (child.id, child.child) == ("desk/0", orch.status()["services"]["desk"]["replicas"][0]["pid"])
        assert root.count_children() == Counts(1, 1, 0, 1)
        sleeper = ProgramConfig(command=[sys.executable, "-c", "import time; time.sleep(600)"])
        assert isinstance(root.start_child("sleeper", sleeper), ChildStarted)
        assert root.delete_child("sleeper") == Running()
        assert root.terminate_child("sleeper") == Done()
        assert isinstance(root.restart_child("sleeper"), ChildStarted)
        with pytest.raises(KeyError, match="there is no supervisor 'other'; there are: mlports"):
            orch.supervisor("other")


def test_a_death_while_nobody_calls_is_noticed_and_mended(tmp_path: Path) -> None:
    with mlports.open(desk(tmp_path)) as orch:
        pid = orch.call("desk.pid")
        heard: list[str] = []
        orch._orchestrator.event_log.listen(lambda event: heard.append(event["event"]))
        os.kill(pid, signal.SIGKILL)
        # Nothing is called meanwhile: the background thread sees to it.
        until_blocking(lambda: "ready" in heard, "it was restarted")
        assert heard[:3] == ["died", "restarting", "starting"]
        assert orch.call("desk.pid") != pid
        assert orch.status()["services"]["desk"]["replicas"][0]["restarts"] == 1


def test_a_death_during_a_call(tmp_path: Path) -> None:
    with mlports.open(desk(tmp_path)) as orch, ThreadPoolExecutor(1) as pool:
        pid = orch.call("desk.pid")
        call = pool.submit(orch.call, "desk.hold", str(tmp_path))
        until_blocking((tmp_path / "at-work").exists, "it is at work")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed, match="SIGKILL"):
            call.result(PATIENCE)
        assert orch.call("desk.echo", 1) == 1


def test_calls_after_pauses_of_all_lengths(orch: BlockingOrchestrator) -> None:
    """Whoever has the loop at that moment, the background thread or nobody, gives it up."""
    pause = threading.Event()
    for number in range(60):
        pause.wait(number / 10_000)
        assert orch.call("pair.echo", number) == number


# In unusual places.


def test_inside_an_asyncio_program(tmp_path: Path) -> None:
    """It holds that program's own loop up, as any blocking call would; in a notebook that is what one wants."""

    async def main() -> None:
        with mlports.open(desk(tmp_path)) as orch:
            use_everything_of(orch)
            await asyncio.sleep(0)
            assert await asyncio.to_thread(orch.call, "desk.echo", 2) == 2
            use_everything_of(orch)

    def use_everything_of(orch: BlockingOrchestrator) -> None:
        assert orch.call("desk.echo", 1) == 1
        assert orch.map("desk.echo", range(100)) == list(range(100))
        assert list(orch.stream("desk.watched", str(tmp_path), 100)) == list(range(100))
        with pytest.raises(WorkerError):
            orch.call("desk.divide", 1, 0)

    asyncio.run(main())


def test_a_callback_that_calls_is_told_so(orch: BlockingOrchestrator) -> None:
    """It runs inside the loop: what it waits for could never come."""
    errors: list[BaseException] = []

    def callback(done: float, total: float | None, text: str) -> None:
        try:
            orch.status()
        except RuntimeError as error:
            errors.append(error)

    assert orch.call("desk.reports", 1, progress=callback) == 1
    assert "inside a callback" in str(errors[0])
    with ThreadPoolExecutor(2) as pool:  # also when the background thread runs the loop
        calls = [pool.submit(orch.call, "desk.reports", 1, progress=callback) for _ in range(2)]
        assert [call.result(PATIENCE) for call in calls] == [1, 1]
    assert len(errors) == 3


def test_a_source_that_calls_is_told_so(orch: BlockingOrchestrator) -> None:
    with pytest.raises(RuntimeError, match="inside a callback"):
        orch.map("desk.echo", (orch.call("desk.echo", n) for n in range(3)))
    assert orch.call("desk.echo", 1) == 1


# Beginnings and ends.


def test_from_a_file(tmp_path: Path) -> None:
    program(tmp_path, DESK, "desk")
    (tmp_path / "mlports.toml").write_text('[service.desk]\ncommand = ["python", "desk.py"]\n')
    with mlports.open(tmp_path / "mlports.toml") as orch:
        assert orch.call("desk.echo", 1) == 1
        assert orch.status()["config"] == str(tmp_path / "mlports.toml")
    with mlports.open(str(tmp_path / "mlports.toml")) as orch:
        assert orch.call("desk.echo", 1) == 1


def test_from_a_config(tmp_path: Path) -> None:
    with mlports.open(Config(service=desk(tmp_path))) as orch:
        assert orch.call("desk.echo", 1) == 1


def test_a_start_that_fails_leaves_nothing() -> None:
    with pytest.raises(StartFailed, match="no such program"):
        mlports.open({"a": ServiceConfig(command=["no-such-program"])})
    with pytest.raises(mlports.ConfigError):
        mlports.open("no-such-file.toml")
    with pytest.raises(mlports.ConfigError, match="there is no service to run"):
        mlports.open({})


def test_closing_twice_and_using_it_afterwards(tmp_path: Path) -> None:
    orch = mlports.open(desk(tmp_path))
    stream = orch.stream("desk.watched", str(tmp_path), 1000)
    assert next(stream) == 0
    orch.close()
    orch.close()
    with orch:
        pass
    for use in (
        lambda: orch.call("desk.echo", 1),
        lambda: orch.map("desk.echo", [1]),
        lambda: orch.cast("desk.note", 1),
        lambda: list(orch.stream("desk.watched", str(tmp_path), 1)),
        lambda: next(orch.events()),
        lambda: next(stream),
        orch.status,
    ):
        with pytest.raises(NotRunning, match="has been closed"):
            use()


def test_closing_in_another_thread_than_it_was_opened_in(tmp_path: Path) -> None:
    orch = in_thread(lambda: mlports.open(desk(tmp_path)))
    assert orch.call("desk.echo", 1) == 1
    in_thread(orch.close)
    with pytest.raises(NotRunning):
        orch.call("desk.echo", 1)


def test_several_threads_close_at_once(tmp_path: Path) -> None:
    for _ in range(3):
        orch = mlports.open(desk(tmp_path))
        with ThreadPoolExecutor(3) as pool:
            for closing in [pool.submit(orch.close) for _ in range(3)]:
                closing.result(PATIENCE)


def test_closing_under_everybody(tmp_path: Path) -> None:
    """Threads that call, follow events and read a stream all come to an end, each in its own way."""
    orch = mlports.open(desk(tmp_path))
    ends: dict[str, str] = {}
    begun = threading.Barrier(4)

    def calls() -> None:
        begun.wait(PATIENCE)
        while True:
            orch.call("desk.echo", 1, timeout=PATIENCE)

    def follows() -> None:
        events = orch.events(recent=True)
        next(events)
        begun.wait(PATIENCE)
        for _ in events:
            pass

    def reads() -> None:
        stream = orch.stream("desk.watched", str(tmp_path), 100_000_000)
        next(stream)
        begun.wait(PATIENCE)
        for _ in stream:
            pass

    def to_the_end(name: str, work: Callable[[], None]) -> None:
        try:
            work()
            ends[name] = "ended"
        except mlports.MlportsError as error:
            ends[name] = type(error).__name__

    threads = [
        threading.Thread(target=to_the_end, args=(work.__name__, work), daemon=True) for work in (calls, follows, reads)
    ]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE)
    began = time.monotonic()
    orch.close()
    assert time.monotonic() - began < PATIENCE
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert ends["calls"] in ("NotRunning", "ServiceDown")
    assert ends["follows"] in ("ended", "NotRunning")
    assert ends["reads"] in ("NotRunning", "ServiceDown", "CallCancelled", "WorkerCrashed")


# Whole programs.


def run_program(tmp_path: Path, text: str, *, interrupt_when: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program that may use `services`; sends it SIGINT, as Ctrl-C does, as soon as a file appears."""
    command = program(tmp_path, DESK, "desk")
    path = tmp_path / "main.py"
    head = f"""
        import signal, sys, threading, mlports
        from mlports import ServiceConfig
        place = {str(tmp_path)!r}
        services = {{"desk": ServiceConfig(command={command!r})}}
    """
    path.write_text(dedent(head) + dedent(text))
    with subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if interrupt_when is not None:
                until_blocking(interrupt_when.exists, "it is time to interrupt")
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize("calling", ["alone", "beside another thread"])
def test_ctrl_c_in_a_call(tmp_path: Path, calling: str) -> None:
    other = ""
    if calling != "alone":
        # It calls all the time, so that the background thread runs the loop for both.
        other = """
        busy = True
        def calls():
            while busy:
                orch.call("desk2.echo", 1)
        services["desk2"] = services["desk"]
        """
    ended = run_program(
        tmp_path,
        dedent(other)
        + dedent(
            f"""
            with mlports.open(services) as orch:
                if {calling != "alone"}:
                    thread = threading.Thread(target=calls)
                    thread.start()
                try:
                    orch.call("desk.hold", place, timeout=None)
                except KeyboardInterrupt:
                    print("interrupted")
                print(orch.call("desk.echo", "still there"))
                busy = False
                if {calling != "alone"}:
                    thread.join()
            """
        ),
        interrupt_when=tmp_path / "at-work",
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\nstill there\n", "", 0)
    assert marks(tmp_path / "left") == ["cancelled"]


def test_ctrl_c_that_nobody_catches(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        with mlports.open(services) as orch:
            orch.call("desk.hold", place, timeout=None)
        """,
        interrupt_when=tmp_path / "at-work",
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert marks(tmp_path / "left") == ["cancelled"]


def test_ctrl_c_in_a_map_and_in_a_stream(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        def interrupting():
            for number in range(1_000_000):
                if number == 5000:
                    signal.raise_signal(signal.SIGINT)
                yield number

        with mlports.open(services) as orch:
            try:
                orch.map("desk.echo", interrupting())
            except KeyboardInterrupt:
                print("map")
            try:
                for item in orch.stream("desk.watched", place, 1_000_000):
                    if item == 5000:
                        signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                print("stream")
            print(orch.call("desk.echo", "still there"))
        """,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("map\nstream\nstill there\n", "", 0)


def test_ctrl_c_again_and_again(tmp_path: Path) -> None:
    """It comes at any moment of a call, and leaves nothing half done."""
    ended = run_program(
        tmp_path,
        """
        import random
        dice = random.Random(5)
        armed = False
        def on_alarm(number, frame):
            if armed:
                signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGALRM, on_alarm)
        with mlports.open(services) as orch:
            interrupted = number = 0
            while interrupted < 300:
                try:
                    # Before the timer: on a busy machine it may go off before another line is run.
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.0001, 0.003))
                    while True:
                        number += 1
                        assert orch.call("desk.echo", number, timeout=5) == number
                except KeyboardInterrupt:
                    armed = False
                    interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(orch.call("desk.echo", "still there"))
            print(orch.status()["services"]["desk"]["replicas"][0]["restarts"])
        """,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("still there\n0\n", "", 0)


def test_a_second_ctrl_c_is_raised_at_once(tmp_path: Path) -> None:
    """The first waits for the source of a map, which belongs to the user and may take for ever."""
    ended = run_program(
        tmp_path,
        """
        def endless():
            yield 1
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            print("not reached")

        with mlports.open(services) as orch:
            try:
                orch.map("desk.echo", endless())
            except KeyboardInterrupt:
                print("interrupted")
            print(orch.call("desk.echo", "still there"))
        """,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\nstill there\n", "", 0)


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError('mine')"])
def test_a_program_that_does_not_close_it(tmp_path: Path, end: str) -> None:
    ended = run_program(
        tmp_path,
        f"""
        orch = mlports.open(services)
        print(orch.call("desk.echo", 1))
        stream = orch.stream("desk.watched", place, 1000)
        next(stream)
        {end}
        """,
    )
    assert ended.stdout == "1\n"
    assert ended.returncode == {"": 0, "sys.exit(3)": 3}.get(end, 1)
    assert ("ValueError: mine" in ended.stderr) == ("mine" in end)
    assert "Exception ignored" not in ended.stderr
    assert (tmp_path / "ended").exists()


def test_a_child_by_fork_leaves_it_alone(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import os
        with mlports.open(services) as orch:
            orch.call("desk.echo", 1)
            child = os.fork()
            if child == 0:
                sys.exit(0)  # runs what is registered with atexit, and leaves the with statement
            os.waitpid(child, 0)
            print(orch.call("desk.echo", "still there"))
        """,
    )
    assert (ended.stdout, ended.returncode) == ("still there\n", 0)


def test_pipelines_are_called_by_their_names(tmp_path: Path) -> None:
    """Guards the facade: the same targets, results and errors as in an event loop."""
    pipelines = {
        "counted": PipelineConfig(stages=["desk.echo", "desk.numbers"]),
        "divided": PipelineConfig(stages=["desk.divide", "desk.echo"]),
    }
    with mlports.open(Config(service=desk(tmp_path), pipeline=pipelines)) as orch:
        assert orch.call("divided", 6, 2) == 3
        assert orch.map("counted", [], timeout=5) == []
        assert list(orch.stream("counted", 3)) == [0, 1, 2]
        with pytest.raises(WorkerError, match="in pipeline divided, stage 1 of 2"):
            orch.call("divided", 1, 0)
        assert orch.status()["pipelines"]["divided"]["answered"] == 1
