"""Crashes that leave a recording, and what becomes of it: in another process, on a full disk, with secrets."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import BatchConfig, Orchestrator, RecordConfig, ServiceConfig, Verdict, WorkerCrashed
from mlports.cli.event_lines import as_line
from mlports.replay import Pace, Recording, Script, play, read_recording, shrink_recording
from tests.integration.command_line import CONFIG, mlports, project
from tests.integration.command_line import running as run
from tests.integration.test_verdict_file import fill, mount
from tests.services import running
from tests.workers import program, until

BODY = """
@worker.method(idempotent=True)
def echo(x):
    return x

@worker.method
def die(status):
    os._exit(status)

@worker.method
def total(xs):
    found = float(sum(xs))
    if found > 100:
        os.abort()
    return found

@worker.method
def ask(target, x):
    found = worker.call(target, x)
    if found == 13:
        os._exit(13)
    return found

@worker.method
def count(n):
    for number in range(n):
        if number == 40:
            os._exit(40)
        yield number

@worker.method(batch=True)
def predict(xs):
    if any(x == 13 for x in xs):
        os.abort()
    return [x + 1 for x in xs]

@worker.method(input=True)
async def gather(xs, first):
    found = [first]
    async for x in xs:
        found.append(x)
    os._exit(len(found))
"""


def files(folder: Path) -> list[Path]:
    return sorted((folder / ".mlports" / "recordings").glob("*"))


def events(orch: Orchestrator, name: str) -> list[dict[str, Any]]:
    return [event for event in orch.event_log.recent if event["event"] == name]


async def crash(orch: Orchestrator, target: str, *params: Any, written: int = 1) -> Verdict:
    """Makes a call that kills; gives the verdict when the recording is written."""
    with pytest.raises(WorkerCrashed) as caught:
        await orch.call(target, *params)
    await until(lambda: len(events(orch, "recorded")) == written, "the recording was written")
    assert caught.value.verdict is not None
    return caught.value.verdict


def of(verdict: Verdict) -> Recording:
    assert verdict.recording is not None
    return read_recording(Path(verdict.recording))


async def test_a_crash_leaves_a_recording_that_crashes_another_process(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    async with running(directory=tmp_path, s=ServiceConfig(command=command, record="on-crash")) as orch:
        for number in range(5):
            assert await orch.call("s.echo", number) == number
        verdict = await crash(orch, "s.die", 7)
        assert await orch.call("s.echo", "again") == "again"
        (died,) = events(orch, "died")
    (path,) = files(tmp_path)
    assert verdict.recording == died["verdict"]["recording"] == str(path)
    assert f"; recorded in {path}" in str(verdict)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    made = of(verdict)
    assert made.header["worker"]["name"] == "worker"
    assert made.header["verdict"]["status"] == 7
    report = await play(Script(made), command)
    assert (report.end, report.deviations, report.notes) == ("same", [], [])
    assert report.verdict is not None
    assert (report.verdict.cause, report.verdict.status, len(report.verdict.in_flight)) == ("exit", 7, 1)
    assert (report.written, report.answered) == (6, 5)


async def test_what_the_ring_forgot_is_not_missed(tmp_path: Path) -> None:
    """The handshake is kept, and answers to calls that are forgotten are nobody's."""
    command = program(tmp_path, BODY)
    service = ServiceConfig(command=command, record=RecordConfig(frames=4))
    async with running(directory=tmp_path, s=service) as orch:
        for number in range(20):
            await orch.call("s.echo", number)
        made = of(await crash(orch, "s.die", 3))
    assert made.header["forgotten"] == 37
    assert [frame.direction for frame in made.frames] == [0, 1, 1, 0, 1, 0]
    assert (await play(Script(made), command)).end == "same"


async def test_stops_are_recorded_if_they_are_to_be(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    for when, count in (("on-crash", 0), ("always", 1)):
        record = RecordConfig(when=when)  # type: ignore[arg-type]
        async with running(directory=tmp_path, s=ServiceConfig(command=command, record=record)) as orch:
            await orch.call("s.echo", 1)
        assert len(files(tmp_path)) == count
    report = await play(Script(read_recording(files(tmp_path)[0])), command)
    assert (report.end, report.verdict, report.answered) == ("same", None, 1)


async def test_a_service_without_the_key_has_an_ordinary_port_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(directory=tmp_path, s=ServiceConfig(command=program(tmp_path, BODY))) as orch:
        with pytest.raises(WorkerCrashed) as caught:
            await orch.call("s.die", 1)
        await orch.call("s.echo", 1)
    assert caught.value.verdict is not None
    assert caught.value.verdict.recording is None
    assert not (tmp_path / ".mlports").exists()


async def test_only_the_newest_recordings_are_kept(tmp_path: Path) -> None:
    service = ServiceConfig(command=program(tmp_path, BODY), record=RecordConfig(keep=2))
    folder = tmp_path / ".mlports" / "recordings"
    folder.mkdir(parents=True)
    (folder / "s.0.20300101T000000.1.min.rec").touch()  # what somebody has made of one
    (folder / "s-2.0.20300101T000000.1.rec").touch()  # another service's
    async with running(directory=tmp_path, s=service) as orch:
        made = [await crash(orch, "s.die", 1, written=number) for number in (1, 2, 3)]
    expected = [*folder.glob("s.0.*.min.rec"), *folder.glob("s-2.*"), *(Path(str(one.recording)) for one in made[1:])]
    assert files(tmp_path) == sorted(expected)


async def test_redacted_values_are_not_in_the_file_and_the_crash_is(tmp_path: Path) -> None:
    command = program(tmp_path, BODY + "\n@worker.method\ndef swallow(x):\n    os._exit(len(x['text']))\n")
    service = ServiceConfig(command=command, record=RecordConfig(redact=True), config={"kept": "in hello"})
    async with running(directory=tmp_path, s=service) as orch:
        assert await orch.call("s.echo", {"name": "SECRET", "n": 7.5}) == {"name": "SECRET", "n": 7.5}
        verdict = await crash(orch, "s.swallow", {"text": "SECRET"})
    data = Path(str(verdict.recording)).read_bytes()
    assert b"SECRET" not in data
    assert b"in hello" in data
    report = await play(Script(of(verdict)), command)
    assert (report.end, report.deviations) == ("same", [])
    assert report.verdict is not None
    assert report.verdict.status == 6


async def test_large_arrays_are_recorded_though_they_would_be_shared(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    async with running(directory=tmp_path, s=ServiceConfig(command=command, record="on-crash")) as orch:
        assert await orch.call("s.echo", np.arange(100_000.0)) is not None
        made = of(await crash(orch, "s.total", np.full(50_000, 1.0)))
    report = await play(Script(made), command)
    assert (report.end, report.deviations) == ("same", [])
    assert report.recorded["name"] == "SIGABRT"


async def test_a_frame_larger_than_a_recording_is_cut_and_that_is_told(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    service = ServiceConfig(command=command, record=RecordConfig(bytes="16KiB"))
    async with running(directory=tmp_path, s=service) as orch:
        made = of(await crash(orch, "s.total", np.full(50_000, 1.0)))
    last = made.frames[-1]
    assert len(last.payload) < 5000 < 400_000 < last.length
    report = await play(Script(made), command)
    assert report.end == "no_crash"
    assert report.notes == ["1 frames to the worker are missing: they were too long to be kept"]


async def test_streams_are_played_within_the_recorded_credit(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    async with running(directory=tmp_path, s=ServiceConfig(command=command, record="on-crash")) as orch:
        with pytest.raises(WorkerCrashed) as caught:
            async for _ in orch.stream("s.count", 100):
                pass
        await until(lambda: events(orch, "recorded"), "it was written")
        assert caught.value.verdict is not None
        made = of(caught.value.verdict)
    report = await play(Script(made), command)
    assert (report.end, report.deviations) == ("same", [])
    assert report.verdict is not None
    assert report.verdict.status == 40


async def test_a_streamed_argument_is_played_when_it_is_asked_for(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    async with running(directory=tmp_path, s=ServiceConfig(command=command, record="on-crash")) as orch:
        with pytest.raises(WorkerCrashed) as caught:
            await orch.call("s.gather", 0, input=range(30))
        await until(lambda: events(orch, "recorded"), "it was written")
        assert caught.value.verdict is not None
        made = of(caught.value.verdict)
    assert made.header["verdict"]["status"] == 31
    assert (await play(Script(made), command)).end == "same"


async def test_a_workers_own_calls_are_answered_from_the_recording(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    service = ServiceConfig(command=command, record="on-crash")
    other = ServiceConfig(command=program(tmp_path, BODY, "other"))
    async with running(directory=tmp_path, s=service, other=other) as orch:
        assert await asyncio.gather(*(orch.call("s.ask", "other.echo", n) for n in range(5))) == list(range(5))
        made = of(await crash(orch, "s.ask", "other.echo", 13))
    report = await play(Script(made), command)
    assert (report.end, report.deviations, report.notes) == ("same", [], [])
    found = await shrink_recording(made, command)
    assert (found.frames, found.minimal) == (1, True)
    again = await play(Script(found.recording), command)
    assert (again.end, again.notes) == ("same", [])


async def test_a_batch_is_shrunk_to_the_item_that_kills(tmp_path: Path) -> None:
    command = program(tmp_path, BODY)
    service = ServiceConfig(command=command, record="on-crash", batch=BatchConfig(max_size=64))
    async with running(directory=tmp_path, s=service) as orch:
        with pytest.raises(WorkerCrashed) as caught:
            await orch.map("s.predict", range(40))
        await until(lambda: events(orch, "recorded"), "it was written")
        assert caught.value.verdict is not None
        path = files(tmp_path)[0]
    found = await shrink_recording(read_recording(path), command)
    (request,) = Script(found.recording).requests.values()
    assert request.meta is not None
    assert (request.params, request.meta["batch"], found.minimal) == ([[13]], 1, True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / ".mlports"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k,mode=700", "mlports-test", str(path))
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / ".mlports"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k,ro", "mlports-test", str(path))
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


async def lost(tmp_path: Path) -> str:
    """The warning that a recording is lost; the service goes on."""
    service = ServiceConfig(command=program(tmp_path, BODY), record="on-crash")
    async with running(directory=tmp_path, s=service) as orch:
        await orch.call("s.echo", "x" * 4000)
        with pytest.raises(WorkerCrashed, match="exited with status 5"):
            await orch.call("s.die", 5)
        await until(lambda: any(e.get("level") == "warning" for e in events(orch, "log")), "that was told")
        assert await orch.call("s.echo", 1) == 1
        assert not events(orch, "recorded")
        (text,) = [event["text"] for event in events(orch, "log") if event["level"] == "warning"]
    assert files(tmp_path) == []
    return str(text)


async def test_a_full_disk_costs_the_recording_and_nothing_else(tmp_path: Path, small_disk: Path) -> None:
    (small_disk / "recordings").mkdir()
    fill(small_disk)
    text = await lost(tmp_path)
    assert "No space left on device. Make room there" in text
    assert text.endswith("nothing but the recording is lost")


async def test_a_read_only_directory_costs_the_recording_and_nothing_else(tmp_path: Path, read_only: Path) -> None:
    assert "Read-only file system" in await lost(tmp_path)


async def test_a_recorded_hang_hangs_again(tmp_path: Path) -> None:
    body = BODY + "\n@worker.method\ndef hang():\n    time.sleep(1e6)\n"
    command = program(tmp_path, body)
    service = ServiceConfig(command=command, record="on-crash", grace=0.1, timeout=0.1)
    async with running(directory=tmp_path, s=service) as orch:
        await orch.call("s.echo", 1, timeout=None)
        with pytest.raises(TimeoutError):
            await orch.call("s.hang")
        await until(lambda: events(orch, "recorded"), "it was written")
    report = await play(Script(read_recording(files(tmp_path)[0])), command, pace=Pace(timeout=0.5))
    assert report.end == "same"
    assert report.verdict is not None
    assert report.verdict.cause == "hang"
    assert report.seconds < 20, "it was given 0.5 s after its start"


def test_the_command_line_names_the_file_and_plays_it(tmp_path: Path) -> None:
    cwd = project(tmp_path / "project", CONFIG + 'record = "on-crash"\n')
    with run(cwd) as orchestrator:
        crashed = mlports("call", "test.crash", cwd=cwd)
        assert crashed.returncode == 5
        died = orchestrator.wait_for(lambda event: event["event"] == "died")
        recorded = orchestrator.wait_for(lambda event: event["event"] == "recorded")
        (path,) = (cwd / ".mlports" / "recordings").iterdir()
        assert f"; recorded in {path}" in crashed.stderr
        assert died["verdict"]["recording"] == str(path)
        assert as_line(died, False).endswith(f"; recorded in {path}")
        assert (recorded["file"], recorded["bytes"]) == (str(path), path.stat().st_size)
        assert orchestrator.end() == 0
    assert mlports("replay", str(path), "--", "python", "worker.py", cwd=cwd).returncode == 0
