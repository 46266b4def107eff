"""Workers in Python that hang, and tell where on SIGUSR2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlports.core.stacks import innermost, stacks_in
from tests.integration.raw_worker import RawWorker
from tests.workers import PATIENCE, program, until_blocking

HANGS = """
import re

@worker.method
def sleeps(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on")
    return "went on"

@worker.method
def deadlocks(place):
    a, b, both = threading.Lock(), threading.Lock(), threading.Barrier(2)

    def other():
        with b:
            both.wait()
            mark(place + "/other")
            with a:
                pass

    threading.Thread(target=other, daemon=True).start()
    with a:
        both.wait()
        mark(place + "/at-work")
        with b:
            pass

@worker.method
def searches(place):
    mark(place + "/at-work")
    re.match(r"(a+)+$", "a" * 30 + "b")
"""

BLOCKS_THE_LOOP = """
@worker.method
async def blocks(place):
    mark(place + "/at-work")
    time.sleep(60)
"""

Start = Callable[..., RawWorker]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(body: str = HANGS, before: str = "", **env: str) -> RawWorker:
        command = program(tmp_path, body)
        path = Path(command[1])
        path.write_text(before + path.read_text())
        return RawWorker(command, stderr=tmp_path / "stderr", env=env)

    return start


def stacks(worker: RawWorker) -> tuple[str, ...]:
    return stacks_in(worker.stderr().splitlines())


def frames(lines: Any) -> list[str]:
    """The names of the functions, of all frames of these lines."""
    return [line.rpartition(" in ")[2] for line in lines if line.startswith("  File")]


def wait_for_frames(worker: RawWorker, *wanted: str) -> tuple[str, ...]:
    """Asks for the stacks until they tell of all these functions: it may be a moment before it gets where it hangs."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        told = len(worker.stderr())
        worker.process.send_signal(signal.SIGUSR2)
        until_blocking(lambda told=told: len(worker.stderr()) > told, "it writes its stacks")  # type: ignore[misc]
        latest = time.monotonic() + 0.3
        while time.monotonic() < latest:
            # The last dump alone: it begins where the file ended before.
            found = stacks_in(worker.stderr()[told:].splitlines())
            if set(wanted) <= set(frames(found)):
                return found
    raise AssertionError(f"no dump tells of {wanted}:\n{worker.stderr()}")


def hang(worker: RawWorker, method: str, place: Path) -> None:
    worker.hello()
    worker.send([0, 1, method, [str(place)]])
    until_blocking((place / "at-work").exists, "the handler is at work")


def test_it_says_that_it_can(start: Start) -> None:
    with start() as worker:
        assert "stacks" in worker.hello()["features"]


def test_it_tells_and_goes_on(start: Start, tmp_path: Path) -> None:
    with start() as worker:
        hang(worker, "sleeps", tmp_path)
        found = wait_for_frames(worker, "sleeps")
        assert "sleeps" in frames(innermost(found))
        (tmp_path / "go-on").touch()
        assert worker.receive()[:4] == [1, 1, None, "went on"]
        assert worker.call(2, "sleeps", str(tmp_path)) == [None, "went on"]
        worker.end_input()
        assert worker.status() == 0


def test_both_threads_of_a_deadlock_are_told(start: Start, tmp_path: Path) -> None:
    with start() as worker:
        hang(worker, "deadlocks", tmp_path)
        until_blocking((tmp_path / "other").exists, "the other thread is there too")
        found = wait_for_frames(worker, "deadlocks", "other")
        at_work = innermost(found)
        assert {"deadlocks", "other"} <= set(frames(at_work))
        assert at_work[0].startswith("Current thread"), "the main thread first"


def test_a_thread_that_holds_the_gil_for_ever_cannot_keep_it_from_telling(start: Start, tmp_path: Path) -> None:
    with start() as worker:
        hang(worker, "searches", tmp_path)
        found = wait_for_frames(worker, "match", "searches")
        assert frames(innermost(found))[:2] == ["match", "searches"]


def test_an_async_handler_that_blocks_its_loop_comes_first(start: Start, tmp_path: Path) -> None:
    """Its thread is not the one that the signal interrupts."""
    with start(BLOCKS_THE_LOOP) as worker:
        hang(worker, "blocks", tmp_path)
        found = wait_for_frames(worker, "blocks")
        assert frames(innermost(found))[0] == "blocks"
        assert not innermost(found)[0].startswith("Current"), "the main thread waits for work, in the SDK"


def test_a_handler_that_waits_for_another_service_is_at_work(start: Start, tmp_path: Path) -> None:
    body = """
    @worker.method
    def asks(place):
        mark(place + "/at-work")
        worker.call("other.method")
    """
    with start(body) as worker:
        hang(worker, "asks", tmp_path)
        found = wait_for_frames(worker, "asks")
        assert "asks" in frames(innermost(found))


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("mark({place!r}); time.sleep(60)", "<module>"),
        ("sys.path.insert(0, {place!r} + '.d'); import stuck", "load"),
        ("@worker.setup\ndef prepare(config):\n    mark({place!r}); time.sleep(60)", "prepare"),
    ],
    ids=["program", "import", "setup"],
)
def test_it_tells_also_before_it_has_said_hello(start: Start, tmp_path: Path, body: str, function: str) -> None:
    place = tmp_path / "at-work"
    folder = tmp_path / "at-work.d"
    folder.mkdir()
    (folder / "stuck.py").write_text(
        f"import time\ndef load():\n    open({str(place)!r}, 'x').close()\n    time.sleep(60)\nload()\n"
    )
    with start(body.format(place=str(place))) as worker:
        worker.send([0, 0, "$/hello", [{"protocol": {"min": 1, "max": 1}}]])
        until_blocking(place.exists, "it has come to where it hangs")
        assert function in frames(innermost(wait_for_frames(worker, function)))


@pytest.mark.parametrize(
    "own",
    [
        "import os, signal; signal.signal(signal.SIGUSR2, lambda *_: os.write(2, b'own\\n'))",
        "import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_programs_own_use_of_the_signal_stays(start: Start, own: str, first: bool) -> None:
    body = "@worker.method\ndef up():\n    return True\n"
    with start(body, before=own + "\n") if first else start(own + "\n" + body) as worker:
        assert "stacks" not in worker.hello()["features"]
        worker.process.send_signal(signal.SIGUSR2)
        if "own" in own:
            until_blocking(lambda: "own" in worker.stderr(), "its own handler has run")
        assert worker.call(1, "up") == [None, True]
        assert not stacks(worker)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only /proc tells of handlers that Python has not set"
)
def test_a_programs_own_use_of_faulthandler_stays(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "stacks"
    own = f"import faulthandler, signal; faulthandler.register(signal.SIGUSR2, file=open({str(place)!r}, 'w'))\n"
    with start("", before=own) as worker:
        assert "stacks" not in worker.hello()["features"]
        worker.process.send_signal(signal.SIGUSR2)
        until_blocking(lambda: stacks_in(place.read_text().splitlines()), "the stacks are where the program wants them")
        assert not stacks(worker)


def test_what_a_worker_starts_takes_the_signal_as_ever(start: Start) -> None:
    body = """
    @worker.method
    def starts():
        code = "import os, signal, mlports_worker; os.kill(os.getpid(), signal.SIGUSR2)"
        return subprocess.run([sys.executable, "-c", code]).returncode
    """
    with start(body) as worker:
        worker.hello()
        assert worker.call(1, "starts") == [None, -signal.SIGUSR2]


def test_a_program_that_no_orchestrator_started_takes_the_signal_as_ever() -> None:
    code = "import os, signal, mlports_worker; os.kill(os.getpid(), signal.SIGUSR2)"
    environment = {name: value for name, value in os.environ.items() if name != "MLPORTS_WORKER"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGUSR2


@pytest.mark.parametrize("missing", ["signal.SIGUSR2", "faulthandler.register", "sys.modules['faulthandler']"])
def test_a_system_without_it_is_no_harm(start: Start, missing: str) -> None:
    """As on Windows, and in builds of Python without it."""
    takes_away = f"del {missing}" if "modules" not in missing else f"{missing} = None"
    body = "@worker.method\ndef up():\n    return True\n"
    with start(body, before=f"import faulthandler, signal, sys\n{takes_away}\n") as worker:
        assert "stacks" not in worker.hello()["features"]
        assert worker.call(1, "up") == [None, True]


def test_the_stacks_go_to_standard_error_wherever_sys_stderr_points(start: Start, tmp_path: Path) -> None:
    with start(HANGS, before="import io, sys\nsys.stderr = io.StringIO()\n") as worker:
        hang(worker, "sleeps", tmp_path)
        assert wait_for_frames(worker, "sleeps")
