"""The file of verdicts, and what a state directory may meet: full and read-only disks, owners alive and dead."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlports import Orchestrator, Verdict, WorkerCrashed
from mlports.control import StateDir, serve
from mlports.control.verdicts import VerdictFile
from mlports.errors import ControlError
from mlports.telemetry import EventLog
from tests.integration.command_line import PATIENCE, Run, environment, mlports, project, running


def verdict(number: int = 0, stderr: tuple[str, ...] = ()) -> dict[str, Any]:
    return Verdict("digits", 0, 4711, "exit", "exited with status 1", 1, restarts=number, stderr=stderr).as_dict()


def records(path: Path) -> list[dict[str, Any]]:
    """Every record of a file, each of which must be whole."""
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def events() -> EventLog:
    return EventLog()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=128k,mode=700", "mlports-test", str(path))
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file of verdicts in it, of one record, that even root cannot write to."""
    path = tmp_path / "read-only"
    path.mkdir()
    (path / "verdicts.jsonl").write_text(json.dumps(verdict()) + "\n")
    mount("--bind", str(path), str(path))
    try:
        mount("-o", "remount,bind,ro", str(path))
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"root may not mount here: {done.stderr.strip()}")


def fill(path: Path) -> Path:
    """Fills the file system of a directory; gives the file that does."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


def told(events: EventLog, level: str) -> list[str]:
    return [event["text"] for event in events.recent if event.get("level") == level]


def test_deaths_and_stops_are_written_and_nothing_else(tmp_path: Path, events: EventLog) -> None:
    file = VerdictFile(tmp_path, events)
    assert not file.path.exists()
    events.emit("ready", service="digits", replica=0, pid=1)
    events.emit("died", service="digits", replica=0, verdict=verdict(0))
    events.emit("stopped", service="digits", replica=0, verdict=verdict(1))
    events.emit("stopped", supervisor="db")
    file.close()
    file.close()
    events.emit("died", service="digits", replica=0, verdict=verdict(2))
    assert records(tmp_path / "verdicts.jsonl") == [verdict(0), verdict(1)]
    assert Verdict.from_dict(records(file.path)[0]).as_dict() == verdict(0)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert not told(events, "error")


def test_any_text_makes_one_line(tmp_path: Path, events: EventLog) -> None:
    odd = ("", 'a "b" \\ \x00\x1b[31m', "line\nbreak\r\u2028\x85", "über 🦊", "lone \udc80 surrogate")
    VerdictFile(tmp_path, events)
    events.emit("died", verdict=verdict(0, odd))
    events.emit("died", verdict=verdict(1))
    first, second = (tmp_path / "verdicts.jsonl").read_bytes().splitlines()
    assert json.loads(first) == verdict(0, odd)
    assert json.loads(second) == verdict(1)


def test_what_was_written_before_stays(tmp_path: Path) -> None:
    for number in range(3):
        events = EventLog()
        file = VerdictFile(tmp_path, events)
        events.emit("died", verdict=verdict(number))
        file.close()
    assert [each["restarts"] for each in records(tmp_path / "verdicts.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize("whole", [0, 1, 2000])
@pytest.mark.parametrize("half", ['{"service": "dig', "x" * 200_000, "\x00" * 4096, "\udcff"], ids=len)
def test_half_a_line_of_a_dead_one_is_taken_away(tmp_path: Path, events: EventLog, whole: int, half: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    kept = (json.dumps(verdict()) + "\n") * whole
    path.write_bytes((kept + half).encode("utf-8", "surrogateescape"))
    VerdictFile(tmp_path, events)
    events.emit("died", verdict=verdict(5))
    assert records(path) == [verdict()] * whole + [verdict(5)]


def test_a_last_line_that_lacks_but_its_end_is_kept(tmp_path: Path, events: EventLog) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(verdict(1)) + "\n" + json.dumps(verdict(2)))
    VerdictFile(tmp_path, events)
    events.emit("died", verdict=verdict(3))
    assert records(path) == [verdict(1), verdict(2), verdict(3)]


def test_a_long_file_gives_way_to_a_new_one(tmp_path: Path, events: EventLog) -> None:
    path, old = tmp_path / "verdicts.jsonl", tmp_path / "verdicts.1.jsonl"
    old.write_text("the one before\n")
    long = ("x" * 1000,) * 50
    VerdictFile(tmp_path, events)
    number = 0
    while number < 2 or path.stat().st_size > len(json.dumps(verdict(number, long))) + 1:
        events.emit("died", verdict=verdict(number, long))
        assert path.stat().st_size <= 4 * 1024 * 1024
        number += 1
    kept = [each["restarts"] for each in records(old) + records(path)]
    assert kept == list(range(number))
    assert old.stat().st_size > 4 * 1024 * 1024 - 60_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_verdict_that_is_longer_than_a_file_may_be_is_written_all_the_same(tmp_path: Path, events: EventLog) -> None:
    VerdictFile(tmp_path, events)
    huge = verdict(1, ("x" * 5_000_000,))
    for each in (huge, verdict(2), verdict(3)):
        events.emit("died", verdict=each)
    assert records(tmp_path / "verdicts.1.jsonl") == [huge]
    assert records(tmp_path / "verdicts.jsonl") == [verdict(2), verdict(3)]


def test_a_full_disk_is_told_once_and_leaves_whole_lines(small_disk: Path, events: EventLog) -> None:
    VerdictFile(small_disk, events)
    events.emit("died", verdict=verdict(0))
    filler = fill(small_disk)
    path = small_disk / "verdicts.jsonl"
    # Longer than what is left of the last page: a part of it can be written, which is the worse case.
    long = ("x" * 1000,) * 8
    for number in (1, 2):
        events.emit("died", verdict=verdict(number, long))
        assert records(path) == [verdict(0)]
    assert told(events, "error") == [
        f"cannot write the verdict on a death to {path}: No space left on device. Make room there, or set state_dir to "
        "another directory; it is tried again at the next death"
    ]
    filler.unlink()
    events.emit("died", verdict=verdict(3, long))
    assert records(path) == [verdict(0), verdict(3, long)]
    assert told(events, "info") == [f"{path} can be written again; 2 verdicts are missing"]
    fill(small_disk)
    events.emit("died", verdict=verdict(4, long))
    assert len(told(events, "error")) == 2, "it is told again when it happens again"


def test_a_limit_on_the_size_of_files_is_told_once_and_leaves_whole_lines(tmp_path: Path) -> None:
    code = (
        "import json, resource, sys\nfrom pathlib import Path\n"
        "from mlports.control.verdicts import VerdictFile\nfrom mlports.telemetry import EventLog\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "events = EventLog()\nVerdictFile(Path(sys.argv[1]), events)\nverdict = json.loads(sys.argv[2])\n"
        "for _ in range(100):\n    events.emit('died', verdict=verdict)\n"
        "print(json.dumps([event['text'] for event in events.recent if event['event'] == 'log']))\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), json.dumps(verdict())]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    (text,) = json.loads(done.stdout)
    assert "File too large. Raise ulimit -f" in text
    written = records(tmp_path / "verdicts.jsonl")
    assert written == [verdict()] * (10_000 // (len(json.dumps(verdict())) + 1))


def test_a_directory_that_became_read_only_is_told_and_left_as_it_is(read_only: Path, events: EventLog) -> None:
    VerdictFile(read_only, events)
    events.emit("died", verdict=verdict(1))
    (text,) = told(events, "error")
    assert "Read-only file system. Make it writable, or set state_dir to another directory" in text
    assert records(read_only / "verdicts.jsonl") == [verdict(0)]


def test_a_directory_that_is_gone_is_told(tmp_path: Path, events: EventLog) -> None:
    VerdictFile(tmp_path / "gone", events)
    events.emit("died", verdict=verdict(1))
    (text,) = told(events, "error")
    assert "No such file or directory. Make the directory, or set state_dir" in text


async def test_an_orchestrator_writes_every_death_and_every_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    orchestrator = Orchestrator.from_config(project(tmp_path) / "mlports.toml")
    async with serve(orchestrator), orchestrator:
        with pytest.raises(WorkerCrashed) as crashed:
            await orchestrator.call("test.crash")
        assert await orchestrator.call("test.echo", 1) == 1
    died, stopped = records(tmp_path / ".mlports" / "verdicts.jsonl")
    assert crashed.value.verdict is not None
    assert died == crashed.value.verdict.as_dict()
    assert (died["name"], died["stderr"], len(died["in_flight"])) == ("exit 7", ["my last words"], 1)
    assert stopped["cause"] == "stopped"


def test_a_running_orchestrator_whose_disk_is_full_goes_on(small_disk: Path) -> None:
    config = f'[orchestrator]\nstate_dir = "{small_disk}/state"\n[service.test]\ncommand = ["python", "worker.py"]\n'
    cwd = project(small_disk.parent / "project", config)
    with running(cwd) as run:
        fill(small_disk)
        assert mlports("call", "test.crash", cwd=cwd).returncode == 5
        assert mlports("call", "test.echo", "1", cwd=cwd).stdout == "1\n"
        event = run.wait_for(lambda event: event.get("level") == "error")
        assert "No space left on device. Make room there" in event["text"]
        assert run.end() == 0


def test_a_full_disk_keeps_an_orchestrator_from_its_start_and_says_so(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(ControlError, match=r"No space left on device\. Make room there, or set state_dir to another"):
        StateDir(small_disk)


def test_a_read_only_directory_keeps_an_orchestrator_from_its_start_and_says_so(read_only: Path) -> None:
    for path in (read_only, read_only / "state"):
        with pytest.raises(ControlError, match=r"Read-only file system\. Make it writable, or set state_dir to anoth"):
            StateDir(path)


def test_a_directory_in_use_names_the_pid_and_a_dead_owners_is_taken_over(tmp_path: Path) -> None:
    """Also with the verdicts of the dead one, whose last line may be half a line."""
    cwd = project(tmp_path)
    with running(cwd) as first:
        assert mlports("call", "test.crash", cwd=cwd).returncode == 5
        second = mlports("run", cwd=cwd)
        assert second.returncode == 3
        assert f"is in use by a running orchestrator (pid {first.process.pid})" in second.stderr
        first.process.kill()
        assert first.process.wait(PATIENCE) == -signal.SIGKILL
    path = cwd / ".mlports" / "verdicts.jsonl"
    with path.open("a") as file:
        file.write('{"service": "te')
    third = Run(cwd)
    with third.process:
        third.wait_ready()
        assert third.end() == 0
    assert [each["name"] for each in records(path)] == ["exit 7", "stopped"]
