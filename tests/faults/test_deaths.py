"""Workers that die, hang, flood or close what they should not: each death has a verdict, each caller an error."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from mlports import DeadlineExceeded, Orchestrator, ServiceConfig, ServiceDown, StartFailed, WorkerCrashed
from tests.faults.scene import careless, faulty, outcome, scene, verdict_of


class Death(NamedTuple):
    """A fault, and what its verdict says."""

    fault: str
    cause: str
    name: str
    text: str
    status: int


IN_CALL = [
    Death("exits-0", "exit", "exit 0", "exited with status 0", 0),
    Death("exits-1", "exit", "exit 1", "exited with status 1", 1),
    Death("kills-itself", "signal", "SIGKILL", "was killed by SIGKILL", -9),
    Death("segfaults", "signal", "SIGSEGV", "was killed by SIGSEGV", -11),
    Death("aborts", "signal", "SIGABRT", "was killed by SIGABRT", -6),
    Death("dies-while-it-calls", "exit", "exit 1", "exited with status 1", 1),
    Death("killed-inside-a-frame", "signal", "SIGKILL", "was killed by SIGKILL", -9),
    Death("leaves-a-grandchild", "exit", "exit 1", "exited with status 1", 1),
    Death("closes-stdout", "closed", "closed", "closed its stdout and went on running", -9),
]


@pytest.mark.parametrize("case", IN_CALL, ids=lambda case: case.fault)
async def test_a_death_in_a_call(case: Death) -> None:
    async with scene(faulty(case.fault)) as seen:
        error = await outcome(seen.call("go"))
        assert type(error) is WorkerCrashed
        assert error.code == "unavailable"
        assert (error.service, error.method, error.replica, error.retryable) == ("faulty", "go", 0, True)
        verdict = verdict_of(error)
        assert (verdict.cause, verdict.name, verdict.status) == (case.cause, case.name, case.status)
        assert verdict.normal == (case.status == 0)
        assert case.text in verdict.detail
        assert verdict.in_flight == (1,)
        assert str(error) == f"faulty.go got no answer: {verdict}"
        assert "with 1 requests in flight" in str(error)

        assert await seen.call("echo", "again") == "again"
        assert seen.replica()["restarts"] == 1
        assert seen.deaths() == [verdict.as_dict()]


async def test_the_last_words_are_in_the_error() -> None:
    async with scene(faulty("exits-1")) as seen:
        error = await outcome(seen.call("go"))
        assert verdict_of(error).stderr == ("CUDA out of memory",)
        assert str(error).endswith("; its last words on stderr:\n  | CUDA out of memory")


async def test_a_cut_frame_is_mentioned_beside_the_signal() -> None:
    async with scene(faulty("killed-inside-a-frame")) as seen:
        detail = verdict_of(await outcome(seen.call("go"))).detail
        assert "TruncatedFrame: the stream ended inside a frame: " in detail


AT_START = [
    Death("exits-before-hello", "exit", "exit 3", "exited with status 3", 3),
    Death("segfaults-before-hello", "signal", "SIGSEGV", "was killed by SIGSEGV", -11),
    Death("never-says-hello", "start_timeout", "start_timeout", "did not answer $/hello within 0.3 s", -12),
    Death("closes-stdout-before-hello", "closed", "closed", "closed its stdout and went on running", -9),
]


@pytest.mark.parametrize("case", AT_START, ids=lambda case: case.fault)
async def test_a_death_before_hello(case: Death) -> None:
    async with scene(faulty(case.fault), start_timeout=0.3 if case.cause == "start_timeout" else 20) as seen:
        (death,) = await seen.until("died")
        verdict = death["verdict"]
        assert (verdict["cause"], verdict["name"], verdict["status"]) == (case.cause, case.name, case.status)
        assert case.text in verdict["detail"]
        assert (verdict["ready"], verdict["in_flight"]) == (False, [])

        await seen.until("gave_up")
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert "service faulty is down: failed to start child faulty/0: worker faulty/0 (pid " in str(error)
        assert verdict["detail"] in str(error)
        assert all(line in str(error) for line in verdict["stderr"])
        assert seen.replica()["restarts"] == 0


async def test_when_nothing_can_be_started() -> None:
    services = {
        "first": ServiceConfig(command=faulty("exits-before-hello")),
        "second": ServiceConfig(command=["no-such-program"]),
    }
    orch = Orchestrator(services=services)
    with pytest.raises(StartFailed) as caught:
        await orch.start()
    text = str(caught.value)
    assert text.startswith("no service could be started:\n  first: failed to start child first/0: worker first/0 (pid ")
    assert "exited with status 3" in text
    assert "there is no file m.skops" in text
    assert "  second: failed to start child second/0: cannot start 'no-such-program': no such program" in text
    assert orch.status()["state"] == "stopped"


async def test_a_start_that_is_given_up() -> None:
    service = ServiceConfig(command=faulty("never-says-hello"), shutdown=0.1)
    orch = Orchestrator(services={"faulty": service})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await orch.start()
    assert orch.status()["state"] == "stopped"
    assert orch.status()["services"]["faulty"]["replicas"][0]["pid"] is None


async def test_a_stop_during_the_start() -> None:
    service = ServiceConfig(command=faulty("never-says-hello"), shutdown=0.1)
    orch = Orchestrator(services={"faulty": service})
    starting = asyncio.Event()
    orch.event_log.listen(lambda event: starting.set())
    start = asyncio.create_task(orch.start())
    await starting.wait()
    call = orch.call("faulty.echo", 1)
    await orch.stop()
    await start
    assert type(await outcome(call)) is ServiceDown
    assert orch.status()["state"] == "stopped"


async def test_a_stop_that_is_cancelled_leaves_nothing() -> None:
    async with scene(faulty("ignores-everything"), shutdown=30) as seen:
        assert await seen.call("go") == "done"
        seen.stopped = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await seen.orch.stop()
        assert seen.orch.status()["state"] == "stopped"
        (stopped,) = await seen.until("stopped")
        assert stopped["verdict"]["status"] == -9
        neighbour = seen.orch.status()["services"]["neighbour"]
        assert (neighbour["state"], neighbour["replicas"][0]["restarts"]) == ("stopping", 0)


async def test_set_up_that_fails_is_told_with_its_traceback() -> None:
    async with scene(careless("setup-fails")) as seen:
        (death,) = await seen.until("died")
        assert death["verdict"]["name"] == "exit 1"
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert "FileNotFoundError: there is no file m.skops" in str(error)


async def test_closing_stdin_is_the_end() -> None:
    async with scene(faulty("closes-stdin")) as seen:
        assert await seen.call("go") == "done"
        # It cannot be reached any more; neither what is sent now nor what follows is lost.
        assert await asyncio.gather(*(seen.call("echo", number) for number in range(10))) == list(range(10))
        (death,) = seen.deaths()
        assert (death["cause"], death["status"]) == ("closed", -9)
        assert death["detail"] == "closed its stdin and went on running"
        assert seen.replica()["restarts"] == 1


async def test_a_grandchild_dies_with_the_worker() -> None:
    async with scene(faulty("leaves-a-grandchild")) as seen:
        began = time.monotonic()
        assert type(await outcome(seen.call("go"))) is WorkerCrashed
        # It holds stdout and stderr open: nobody waits for their end.
        assert time.monotonic() - began < 5
    # That the grandchild is gone is what every test's check for leaks says.


@pytest.mark.parametrize("fault", ["never-answers", "stops-itself"])
async def test_a_call_that_is_never_answered(fault: str) -> None:
    async with scene(faulty(fault), shutdown="brutal_kill") as seen:
        error = await outcome(seen.call("go", timeout=0.3))
        assert type(error) is DeadlineExceeded
        assert "faulty.go was not answered within its timeout: a worker had been at it for 0." in str(error)
        if fault == "never-answers":
            assert await seen.call("echo", 1) == 1
        assert seen.deaths() == []


async def test_a_stop_that_is_ignored() -> None:
    async with scene(faulty("ignores-everything"), shutdown=0.2) as seen:
        assert await seen.call("go") == "done"
        began = time.monotonic()
        await seen.orch.stop()
        assert 1.1 < time.monotonic() - began < 5
        (stopped,) = await seen.until("stopped")
        verdict = stopped["verdict"]
        assert (verdict["cause"], verdict["status"]) == ("stopped", -9)
        assert verdict["detail"].endswith("it ignored the request and SIGTERM, then SIGKILL")
        seen.stopped = True


async def test_a_stop_leaves_the_worker_its_time() -> None:
    async with scene(faulty("takes-its-leave"), shutdown=10) as seen:
        assert await seen.call("go") == "done"
        await seen.orch.stop()
        (stopped,) = await seen.until("stopped")
        assert (stopped["verdict"]["cause"], stopped["verdict"]["status"]) == ("stopped", 0)
        seen.stopped = True


HARMLESS = ["floods-logs", "floods-stderr", "stderr-without-newlines", "stderr-binary"]


@pytest.mark.parametrize("fault", HARMLESS)
async def test_floods_are_drained_in_bounded_memory(fault: str) -> None:
    async with scene(faulty(fault)) as seen:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ticks = seen.ticks
        assert await seen.call("go") == "done"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 32, f"{grown} MiB more than before"
        if fault in ("floods-logs", "floods-stderr"):
            assert seen.ticks > ticks + 10, "the neighbour was not answered meanwhile"
        assert len(seen.orch.event_log.recent) <= 1000
        assert seen.deaths() == []
        assert seen.replica()["restarts"] == 0


async def test_stderr_that_is_no_text_is_escaped() -> None:
    async with scene(faulty("stderr-binary")) as seen:
        assert await seen.call("go") == "done"
        assert "\\x80\\x81" in await seen.until_logged("\\xff")


async def test_8_mib_in_and_out_at_the_same_time() -> None:
    async with scene(faulty("writes-before-reading")) as seen:
        body = os.urandom(8 * 1024 * 1024)
        for _ in range(2):
            assert await seen.call("go", body) == bytes(len(body))
        assert seen.deaths() == []


# Programs that cannot be started at all.


def _program(place: Path, text: str, mode: int) -> str:
    place.write_text(text)
    place.chmod(mode)
    return str(place)


def _unstartable(kind: str, directory: Path) -> tuple[list[str], str]:
    program = directory / "program"
    if kind == "missing":
        return ["no-such-program"], "."
    if kind == "not executable":
        return [_program(program, "#!/bin/sh\n", 0o644)], "."
    if kind == "no program":
        return [_program(program, "loss = 0.25\n", 0o755)], "."
    if kind == "no interpreter":
        return [_program(program, "#!/no/such/interpreter\n", 0o755)], "."
    if kind == "directory":
        return [str(directory)], "."
    return careless(), str(directory / "nowhere")


UNSTARTABLE = [  # kind, what is wrong, how to mend it
    ("missing", "cannot start 'no-such-program': no such program, as seen from ", "Correct command"),
    ("not executable", "it may not be executed", "Try: chmod +x "),
    ("no program", "it is no program and has no #! line", "Name its interpreter first in command"),
    ("no interpreter", "the interpreter that its first line names is missing", "install the program"),
    ("directory", "it is a directory", "Name a program"),
    ("no cwd", "its working directory", "Correct cwd, or make the directory"),
]


@pytest.mark.parametrize(
    ("transport", "kind", "what", "fix"),
    [
        *(pytest.param("stdio", *case, id=case[0]) for case in UNSTARTABLE),
        # With fd34 a shell becomes the program, and says itself what is wrong with the file's content.
        *(
            pytest.param("fd34", *case, id=f"{case[0]}, fd34")
            for case in UNSTARTABLE
            if case[0] not in ("no program", "no interpreter")
        ),
    ],
)
async def test_a_program_that_cannot_be_started(transport: str, kind: str, what: str, fix: str, tmp_path: Path) -> None:
    command, cwd = _unstartable(kind, tmp_path)
    async with scene(command, transport=transport, cwd=cwd) as seen:
        (death,) = await seen.until("died")
        verdict = death["verdict"]
        assert (verdict["cause"], verdict["pid"], verdict["status"]) == ("spawn", None, None)
        await seen.until("gave_up")
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert f"service faulty is down: failed to start child faulty/0: cannot start {command[0]!r}" in str(error)
        assert what in str(error)
        assert fix in str(error)
        assert seen.replica()["restarts"] == 0
