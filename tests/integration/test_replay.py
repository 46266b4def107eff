"""`mlports replay`, as a process: what it shows, compares, refuses, shrinks and exits with."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import Verdict
from mlports.core.recording import FROM_WORKER, TO_WORKER, Recording
from mlports.errors import RecordingError
from mlports.replay import Pace, Script, play, read_recording, shrink_recording, write_recording
from tests.integration.command_line import PATIENCE, mlports, start
from tests.recordings import HELLO, calls, raw_worker, recording, saved
from tests.workers import program

GREETING = {
    "protocol": 1,
    "name": "worker",
    "language": "python",
    "sdk": "any",
    "methods": {"root": {}, "label": {}, "die": {}},
    "features": ["batch", "stream"],
}
BODY = """
@worker.method
def root(x):
    return x ** 0.5

@worker.method
def label(x):
    return {"label": "b", "x": x}

@worker.method
def die(status):
    os._exit(status)
"""
ANSWERS = [
    (TO_WORKER, [0, 1, "root", [2.0]]),
    (FROM_WORKER, [1, 1, None, 1.4142135623730954]),  # the last place differs
    (TO_WORKER, [0, 2, "label", [[1, 2]]]),
    (TO_WORKER, [0, 3, "label", [5]]),
    (FROM_WORKER, [1, 3, None, {"label": "b", "x": 5}]),
    (FROM_WORKER, [1, 2, None, {"label": "a", "x": [1, 2]}]),
]


def died(status: int) -> Verdict:
    return Verdict("raw", 0, 1, "exit", f"exited with status {status}", status)


@pytest.fixture
def crashing(tmp_path: Path) -> tuple[Path, list[str]]:
    """A recording whose fourth call kills, and the worker that it kills."""
    return saved(tmp_path, recording(calls(["noop", "noop", "noop", "kill"]))), raw_worker(tmp_path)


def test_the_same_crash(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, command = crashing
    done = mlports("replay", path.name, "--", *command, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "4 frames written, 3 answers, 0 of them differ",
        "recorded: exited with status 9",
        "now:      exited with status 9",
        "the same end",
    ]
    assert "| dying of kill" in done.stderr
    told = json.loads(mlports("replay", "--json", path.name, "--", *command, cwd=tmp_path).stdout)
    assert (told["end"], told["verdict"]["status"], told["recorded"]["status"], told["written"]) == ("same", 9, 9, 4)


@pytest.mark.parametrize(
    ("last", "status", "told"), [("noop", 6, "no crash"), ("other", 7, "it differs"), ("kill", 0, "the same end")]
)
def test_another_end(tmp_path: Path, last: str, status: int, told: str) -> None:
    path = saved(tmp_path, recording(calls(["noop", last])))
    done = mlports("replay", str(path), "--", *raw_worker(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (status, told)


def test_answers_that_differ_are_shown(tmp_path: Path) -> None:
    stopped = Verdict("raw", 0, 1, "stopped", "was stopped", 0)
    path = saved(tmp_path, recording(ANSWERS, verdict=stopped, greeting=GREETING))
    command = program(tmp_path, BODY)
    done = mlports("replay", str(path), "--", *command, cwd=tmp_path)
    assert done.returncode == 7
    assert done.stdout.splitlines()[:3] == [
        "request 1, root, result: recorded 1.4142135623730954, now 1.4142135623730951",
        "request 2, label, result['label']: recorded 'a', now 'b'",
        "3 frames written, 3 answers, 2 of them differ",
    ]
    closer = mlports("replay", "--tolerance", "1e-9", "--json", str(path), "--", *command, cwd=tmp_path)
    (left,) = json.loads(closer.stdout)["deviations"]
    assert left == {"id": 2, "method": "label", "place": "result['label']", "recorded": "'a'", "now": "'b'"}


def test_answers_that_differ_do_not_make_another_crash(tmp_path: Path) -> None:
    path = saved(tmp_path, recording([*ANSWERS, (TO_WORKER, [0, 4, "die", [3]])], verdict=died(3), greeting=GREETING))
    done = mlports("replay", str(path), "--", *program(tmp_path, BODY), cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the same end")
    assert "3 answers, 2 of them differ" in done.stdout


def test_another_worker_is_told_and_one_that_lacks_methods_is_refused(tmp_path: Path) -> None:
    made = recording([(TO_WORKER, [0, 1, "die", [3]])], verdict=died(3), greeting=GREETING)
    path = saved(tmp_path, made)
    other = program(tmp_path, "@worker.method\ndef die(x):\n    os._exit(x)\n", name="other")
    done = mlports("replay", str(path), "--", *other, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "note: recorded was the name 'worker', and this is 'other'\n")
    less = program(tmp_path, "@worker.method\ndef live(x):\n    return x\n", name="less")
    refused = mlports("replay", str(path), "--", *less, cwd=tmp_path)
    assert refused.returncode == 2
    assert "this worker lacks the method die, which the recording uses" in refused.stderr
    assert "--force" in refused.stderr
    forced = mlports("replay", "--force", str(path), "--", *less, cwd=tmp_path)
    assert (forced.returncode, "note: this worker lacks the method die" in forced.stderr) == (6, True)
    bare = mlports("replay", str(path), "--", *raw_worker(tmp_path), cwd=tmp_path)
    assert "recorded was a worker that answers $/hello, and this is a bare worker" in bare.stderr


def test_a_file_that_was_cut_off_is_used_as_far_as_it_goes(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, command = crashing
    path.write_bytes(path.read_bytes()[:-3])
    done = mlports("replay", str(path), "--", *command, cwd=tmp_path)
    assert done.returncode == 6
    assert f"note: {path} was cut off: 1 of its 9 frames are missing" in done.stderr
    assert done.stdout.startswith("3 frames written, 3 answers")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    made = recording(calls(["noop"]))
    (tmp_path / "text").write_text("{}")
    (tmp_path / "empty").touch()
    (tmp_path / "newer").write_bytes(saved(tmp_path, made).read_bytes().replace(b"version\x01", b"version\x02"))
    write_recording(tmp_path / "headless", made.header, made.frames[1:])
    for name, told in {
        "text": "no recording of mlports",
        "empty": "no recording of mlports",
        "/dev/zero": "no recording of mlports",
        "newer": "of version 2, and this mlports reads version 1",
        "headless": "no $/hello",
        "nowhere": "No such file",
        ".": "Is a directory",
    }.items():
        with pytest.raises(RecordingError, match=re.escape(told)):
            Script(read_recording(tmp_path / name))
    done = mlports("replay", "newer", "--", "true", cwd=tmp_path)
    assert (done.returncode, "of version 2" in done.stderr) == (2, True)


def test_wrong_usage(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path = str(crashing[0])
    for arguments, told in [
        ([path], "say which worker to play it to"),
        ([path, "--show", "--", "true"], "--show runs nothing"),
        ([path, "--shrink", "--step", "--", "true"], "--shrink runs the worker many times"),
        ([path, "--out", "x", "--", "true"], "--out goes with --shrink"),
        ([path, "--step", "--", "true"], "standard input is no terminal"),
        ([path, "--", "./no-such-program"], "no such program"),
        ([path, "--pause", "--", *crashing[1]], "which is at its end"),
    ]:
        done = mlports("replay", *arguments, cwd=tmp_path)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_frames_are_shown_and_nothing_is_run(tmp_path: Path) -> None:
    said = [*ANSWERS, (FROM_WORKER, [2, "$/log", ["info", "\x1b[31mred", {}]])]
    path = saved(tmp_path, recording(said, greeting=GREETING, forgotten=3))
    done = mlports("replay", "--show", str(path), cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "raw/0: worker (python, any)",
        "ended: exited with status 9",
        "9 frames, 3 before them forgotten",
    ]
    assert lines[5:7] == ["  0.002000 ──▶ 1 root(2.0)", "  0.003000 ◀── answer 1: 1.4142135623730954"]
    assert "\x1b" not in done.stdout
    header, *shown = map(json.loads, mlports("replay", "--show", "--json", str(path), cwd=tmp_path).stdout.splitlines())
    assert header["recording"]["verdict"]["status"] == 9
    assert shown[2] == {
        "at": 0.002,
        "direction": "to_worker",
        "type": "request",
        "id": 1,
        "method": "root",
        "params": [2.0],
    }


def test_a_worker_can_be_paused_for_a_debugger(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, command = crashing
    with start("replay", "--pause", str(path), "--", *command, cwd=tmp_path, stdin=-1) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        pid = int(told.partition("pid ")[2].partition(",")[0])
        assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2].endswith(b"raw.py")
        out, _ = process.communicate("\n", PATIENCE)
    assert (process.returncode, out.splitlines()[-1]) == (0, "the same end")


def test_step_by_step_at_a_terminal(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, command = crashing
    ours, theirs = pty.openpty()
    try:
        with start("replay", "--step", str(path), "--", *command, cwd=tmp_path, stdin=theirs) as process:
            assert process.stderr is not None
            shown = []
            for _ in range(4):
                shown.append(process.stderr.readline().rstrip())
                os.write(ours, b"\n")
            out, _ = process.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown[0] == "  0.002000 ──▶ 1 noop()   [Enter]"
    assert shown[3] == "  0.008000 ──▶ 4 kill()   [Enter]"
    assert out.splitlines()[-1] == "the same end"


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_under_a_debugger(tmp_path: Path) -> None:
    path = saved(tmp_path, recording([(TO_WORKER, [0, 1, "die", [3]])], verdict=died(3), greeting=GREETING))
    command = ["gdb", "-nx", "-batch", "-ex", "run", "--args", *program(tmp_path, BODY)]
    done = mlports("replay", "--transport", "fd34", str(path), "--", *command, cwd=tmp_path)
    assert "exited with code 03" in done.stderr


async def test_gaps_are_kept_at_speed(tmp_path: Path) -> None:
    def with_gap(seconds: float) -> Script:
        made = recording(calls(["noop", "kill"]))
        later = [frame._replace(at=frame.at + (seconds if place > 3 else 0)) for place, frame in enumerate(made.frames)]
        return Script(Recording(made.header, later))

    command = raw_worker(tmp_path)
    kept = await play(with_gap(0.4), command, pace=Pace(recorded=True))
    assert (kept.end, kept.seconds >= 0.4) == ("same", True)
    resting = await play(with_gap(0.4), command, pace=Pace(recorded=True, timeout=0.2))
    assert resting.end == "same"  # nothing was due while it was silent
    left_out = await play(with_gap(PATIENCE), command)
    assert (left_out.end, left_out.seconds < PATIENCE) == ("same", True)


async def test_requests_wait_for_the_answers_that_they_had_waited_for(tmp_path: Path) -> None:
    """One at a time stays one at a time, and those that were in flight together still are."""
    body = """
    at_once = [0, 0]

    @worker.method
    async def busy(n):
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(0.01)
        at_once[0] -= 1
        return n

    @worker.method
    async def end():
        os._exit(at_once[1])
    """
    command = program(tmp_path, body, concurrency=8)
    alone = [(way, [kind, number, *rest]) for number in range(1, 6) for way, kind, *rest in _call("busy", number)]
    together = [message for message in alone if message[0] == TO_WORKER] + [m for m in alone if m[0] == FROM_WORKER]
    for said, most in ((alone, 1), (together, 5)):
        made = recording([*said, (TO_WORKER, [0, 99, "end", []])], verdict=died(most))
        report = await play(Script(made), command, force=True)
        assert report.verdict is not None
        assert report.verdict.status == most
        assert report.answered == 5


def _call(method: str, value: int) -> list[tuple[Any, ...]]:
    return [(TO_WORKER, 0, method, [value]), (FROM_WORKER, 1, None, value)]


@pytest.mark.parametrize(
    ("answer", "violation"),
    [
        ([1, 99, None, None], "UnknownId"),
        ([2, "$/item", [1, 0]], "CreditExceeded"),
        ([3, 1], "InvalidMessage"),
        (None, "MalformedValue"),
    ],
)
async def test_a_broken_protocol_is_told_as_it_was(tmp_path: Path, answer: Any, violation: str) -> None:
    script = f"""
import sys, msgpack
def say(data):
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()
read = sys.stdin.buffer.read
while head := read(4):
    message = msgpack.unpackb(read(int.from_bytes(head, "big")))
    if message[2] == "$/hello":
        say(msgpack.packb([1, 0, {{"code": "unimplemented", "message": "bare"}}, None]))
    elif {answer!r} is None:
        say(b"\\xc1")
    else:
        say(msgpack.packb({answer!r}))
"""
    (tmp_path / "breaks.py").write_text(script)
    verdict = Verdict("raw", 0, 1, "protocol", f"broke the protocol: {violation}: it did", -9)
    made = recording(calls(["noop"]), verdict=verdict)
    report = await play(Script(made), [sys.executable, str(tmp_path / "breaks.py")])
    assert report.verdict is not None
    assert (report.end, report.verdict.cause) == ("same", "protocol"), report.verdict.detail


async def test_a_worker_that_never_answers_is_given_up(tmp_path: Path) -> None:
    report = await play(Script(recording(calls(["noop"]))), ["sleep", "1000"], pace=Pace(0.2, start_timeout=0.2))
    assert report.verdict is not None
    assert (report.end, report.verdict.cause) == ("differs", "start_timeout")


async def test_a_replay_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    task = asyncio.ensure_future(play(Script(recording(calls(["noop"]))), ["sleep", "1000"]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def shrunk(methods: list[str], folder: Path, seconds: float = 60.0) -> tuple[list[str], bool, int]:
    """What is left of calls one after the other, whether that is proven, and how many trials it took."""
    found = asyncio.run(shrink_recording(recording(calls(methods)), raw_worker(folder), seconds=seconds))
    assert found.end == "same"
    left = Script(found.recording)
    assert len(left.units) == found.frames
    assert asyncio.run(play(left, raw_worker(folder))).end == "same"
    return [request.method for request in left.requests.values()], found.minimal, found.trials


def test_one_frame_among_many_is_found(tmp_path: Path) -> None:
    assert shrunk(["noop"] * 300 + ["kill"], tmp_path) == (["kill"], True, 3)


def test_two_frames_that_only_kill_together_are_found(tmp_path: Path) -> None:
    left, minimal, _ = shrunk(["noop"] * 20 + ["arm"] + ["noop"] * 30 + ["fire"], tmp_path)
    assert (left, minimal) == (["arm", "fire"], True)


def test_state_that_so_many_calls_build_up_is_kept(tmp_path: Path) -> None:
    left, minimal, _ = shrunk(["noop"] * 60 + ["tenth"], tmp_path)
    assert (left, minimal) == (["noop"] * 9 + ["tenth"], True)


def test_when_the_time_is_up_what_was_found_is_given(tmp_path: Path) -> None:
    left, minimal, _ = shrunk(["noop"] * 50 + ["arm"] + ["noop"] * 50 + ["fire"], tmp_path, seconds=0.3)
    assert not minimal
    assert {"arm", "fire"} <= set(left)


async def test_a_request_goes_with_all_that_is_said_about_it(tmp_path: Path) -> None:
    body = "@worker.method\ndef count(n):\n    yield from range(n)\n    os._exit(n)\n"
    unknown = {"code": "unimplemented", "message": "no such method"}
    said: list[tuple[int, Any]] = [(TO_WORKER, [0, 1, "noop", []]), (FROM_WORKER, [1, 1, unknown, None])]
    said += [(TO_WORKER, [0, 2, "count", [3], {"credit": 1}]), (FROM_WORKER, [2, "$/item", [2, 0]])]
    said += [(TO_WORKER, [0, 3, "noop", []]), (TO_WORKER, [2, "$/credit", [2, 5]])]
    hello = {**HELLO, "features": ["stream"]}
    made = recording(said, verdict=died(3), greeting={**GREETING, "methods": ["count", "noop"]}, hello=hello)
    found = await shrink_recording(made, program(tmp_path, body))
    assert (found.before, found.frames, found.minimal) == (4, 2, True)
    assert [request.method for request in Script(found.recording).requests.values()] == ["count"]


def test_the_command_shrinks_writes_and_says_so(crashing: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, command = crashing
    done = mlports("replay", "--shrink", path.name, "--", *command, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("4 frames to the worker became 1, beside $/hello; none of them can be left out\n")
    assert mlports("replay", "crash.min.rec", "--", *command, cwd=tmp_path).stdout.endswith("the same end\n")
    told = mlports("replay", "--shrink", "--json", "--out", "x", path.name, "--", *command, cwd=tmp_path)
    assert {"before": 4, "frames": 1, "minimal": True, "out": "x"}.items() <= json.loads(told.stdout).items()
    for methods, status in ((["noop"], 6), (["other"], 7)):
        other = saved(tmp_path, recording(calls(methods)), "other.rec")
        refused = mlports("replay", "--shrink", str(other), "--", *command, cwd=tmp_path)
        assert (refused.returncode, "nothing to shrink" in refused.stderr) == (status, True)
    full = mlports("replay", "--shrink", "--out", "/dev/full", path.name, "--", *command, cwd=tmp_path)
    assert (full.returncode, "No space left on device" in full.stderr) == (2, True)


def test_writing_tells_what_is_wrong(tmp_path: Path) -> None:
    made = recording([])
    with pytest.raises(RecordingError, match="No space left on device"):
        write_recording(Path("/dev/full"), made.header, made.frames)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("methods", "left"),
    [
        (["noop"] * 9_999 + ["kill"], ["kill"]),
        (["noop"] * 3_000 + ["arm"] + ["noop"] * 6_998 + ["fire"], ["arm", "fire"]),
        (["noop"] * 9_999 + ["tenth"], ["noop"] * 9 + ["tenth"]),
    ],
)
def test_ten_thousand_frames_are_shrunk_within_a_minute(tmp_path: Path, methods: list[str], left: list[str]) -> None:
    began = time.monotonic()
    found, minimal, _ = shrunk(methods, tmp_path)
    assert (found, minimal) == (left, True)
    assert time.monotonic() - began < 60


@pytest.mark.soak
def test_one_of_ten_thousand_in_flight_together_is_found_within_a_minute(tmp_path: Path) -> None:
    """Those behind the one that kills were sent too, so that it is not the last."""
    said: list[tuple[int, Any]] = [
        (TO_WORKER, [0, number, "kill" if number == 4_321 else "noop", []]) for number in range(1, 10_001)
    ]
    command = raw_worker(tmp_path)
    slow = [*command[:-1], "-c", f"import time; time.sleep(0.04); exec(open({command[-1]!r}).read())"]
    found = asyncio.run(shrink_recording(recording(said), slow))
    assert (found.before, found.frames, found.minimal) == (10_000, 1, True)
    assert found.seconds < 60
