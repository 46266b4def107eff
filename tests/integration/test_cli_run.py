"""`mlports run`, `status`, `events` and `stop`: the life of an orchestrator, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.command_line import CONFIG, PATIENCE, Event, Run, mlports, project, running, start

BUSY = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)


@worker.method
def busy():
    print("busy", file=sys.stderr, flush=True)
    signal.pause()


worker.run()
"""


def test_its_life_as_people_see_it(tmp_path: Path) -> None:
    """Guards what stands in a terminal: starts, the worker's stderr, deaths with their verdict, restarts, the end."""
    cwd = project(tmp_path)
    with start("run", cwd=cwd) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert f"(pid {process.pid})" in lines[0]
        assert "test/0       starting" in lines[1]
        assert "test/0       ready after" in lines[2]
        assert mlports("call", "test.crash", cwd=cwd).returncode == 5
        lines = [process.stdout.readline() for _ in range(5)]
        assert "| my last words" in lines[0]
        assert "died: exited with status 7 after" in lines[1]
        assert "with 1 request in flight" in lines[1]
        assert "restarting" in lines[2]
        assert "ready after" in lines[4]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert "stopping: Ctrl-C" in rest
    assert "\x1b" not in rest
    assert (process.returncode, errors) == (0, "")


def test_its_life_as_programs_see_it(tmp_path: Path) -> None:
    """Guards supervisors and log collectors above us: one object a line, and SIGTERM is a clean stop."""
    with start("run", "--json", cwd=project(tmp_path)) as process:
        assert process.stdout is not None
        events: list[Event] = []
        while not events or events[-1]["event"] != "ready":
            events.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=PATIENCE)
        events += map(json.loads, rest.splitlines())
    assert (process.returncode, errors) == (0, "")
    assert [event["event"] for event in events] == ["running", "starting", "ready", "stopping", "stopped"]
    assert events[0]["pid"] == process.pid
    assert events[3]["text"] == "SIGTERM"
    assert not (tmp_path / ".mlports" / "control.sock").exists()


def test_status_shows_services_and_replicas(tmp_path: Path) -> None:
    """Guards the table, and the same as JSON."""
    with running(project(tmp_path)) as run:
        assert mlports("call", "test.echo", "1", cwd=run.cwd).returncode == 0
        found = json.loads(mlports("status", "--json", cwd=run.cwd).stdout)
        (replica,) = found["services"]["test"]["replicas"]
        assert (found["pid"], found["services"]["test"]["state"]) == (run.process.pid, "up")
        assert (replica["state"], replica["answered"], replica["restarts"]) == ("ready", 1, 0)
        table = mlports("status", "-c", str(run.cwd), cwd=Path("/")).stdout.splitlines()
        assert table[0] == f"orchestrator running, pid {run.process.pid}, {run.cwd / 'mlports.toml'}"
        assert table[2].split() == [
            "SERVICE",
            "STATE",
            "PID",
            "UPTIME",
            "RESTARTS",
            "IN",
            "FLIGHT",
            "ANSWERED",
            "WAITING",
        ]
        assert table[3].split() == ["test", "up", "0", "0", "1", "0"]
        assert table[4].split()[:3] == ["test/0", "ready", str(replica["pid"])]


def test_events_are_followed_until_the_stop(tmp_path: Path) -> None:
    """Guards `mlports events` and `mlports stop`: the last event comes before the end, and the end is the end."""
    with running(project(tmp_path)) as run:
        with start("events", "--json", "-n", "1", cwd=run.cwd) as events:
            assert events.stdout is not None
            assert json.loads(events.stdout.readline())["event"] == "ready"
            done = mlports("stop", cwd=run.cwd)
            assert done.stdout == f"the orchestrator (pid {run.process.pid}) has stopped\n"
            rest = [json.loads(line)["event"] for line in events.communicate(timeout=PATIENCE)[0].splitlines()]
        assert (rest, events.returncode) == (["stopping", "stopped"], 0)
        # Who waited for the stop may start the next one at once.
        with running(run.cwd) as second:
            assert json.loads(mlports("stop", "--json", cwd=run.cwd).stdout) == {"stopped": second.process.pid}
            assert second.process.wait(PATIENCE) == 0
        assert run.process.wait(PATIENCE) == 0


def test_a_second_one_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """Guards workers against being started twice."""
    with running(project(tmp_path)) as run:
        done = mlports("run", cwd=run.cwd)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"in use by a running orchestrator (pid {run.process.pid})" in done.stderr
        assert mlports("call", "test.echo", "1", cwd=run.cwd).stdout == "1\n"


def test_a_killed_ones_place_is_taken_over(tmp_path: Path) -> None:
    """Guards restarts after an out-of-memory kill: nothing has to be cleaned up by hand."""
    run = Run(project(tmp_path))
    run.wait_ready()
    with start("events", "-n", "1", cwd=run.cwd) as events, start("call", "test.hang", "1", cwd=run.cwd) as call:
        assert events.stdout is not None
        assert events.stdout.readline()  # it is connected
        run.wait_line("hanging 1")
        run.end(signal.SIGKILL)
        assert "hung up" in events.communicate(timeout=PATIENCE)[1]
        assert "hung up" in call.communicate(timeout=PATIENCE)[1]
        assert (events.returncode, call.returncode) == (3, 3)
    assert (run.cwd / ".mlports" / "control.sock").exists()
    assert mlports("status", cwd=run.cwd).returncode == 3
    with running(run.cwd):
        assert mlports("call", "test.echo", "1", cwd=run.cwd).stdout == "1\n"


def test_no_service_could_be_started_is_the_end_with_the_reason(tmp_path: Path) -> None:
    """Guards service managers above us, which look at the status."""
    cwd = project(tmp_path, '[service.test]\ncommand = ["no-such-program"]\n')
    done = mlports("run", cwd=cwd)
    assert done.returncode == 5
    assert "gave up" in done.stdout
    assert "no service could be started:\n  test: " in done.stderr
    assert "cannot start 'no-such-program': no such program" in done.stderr
    as_json = mlports("run", "--json", cwd=cwd)
    assert json.loads(as_json.stdout.splitlines()[-1])["error"]["code"] == "start_failed"
    assert not (cwd / ".mlports" / "control.sock").exists()


def test_all_services_down_is_the_end_with_the_reason(tmp_path: Path) -> None:
    """Guards against an orchestrator that runs on with nothing to run."""
    with running(project(tmp_path, CONFIG + "[supervisor]\nintensity = 0\n")) as run:
        assert mlports("call", "test.crash", cwd=run.cwd).returncode == 5
        out, _ = run.process.communicate(timeout=PATIENCE)
        error = json.loads(out.splitlines()[-1])["error"]
        assert run.process.returncode == 5
        assert error["message"].startswith("every service is down:\n  test: ")


def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    """Guards people in a hurry: a worker that ignores all requests does not hold them."""
    cwd = project(tmp_path, CONFIG.replace("200ms", "infinity"))
    worker = cwd / "worker.py"
    worker.write_text(worker.read_text().replace("worker.run()", BUSY))
    with running(cwd) as run, start("call", "test.busy", cwd=cwd) as call:
        run.wait_line("busy")
        run.process.send_signal(signal.SIGINT)
        run.wait_for(lambda event: event["event"] == "stopping")
        assert run.end(signal.SIGINT) == 130
        call.communicate(timeout=PATIENCE)


def test_ctrl_c_while_workers_start_ends_them(tmp_path: Path) -> None:
    """Guards the impatient: a worker that loads for an hour can be stopped before."""
    cwd = project(tmp_path)
    (cwd / "worker.py").write_text(
        "import signal, sys\nprint('loading', file=sys.stderr, flush=True)\nsignal.pause()\n"
    )
    run = Run(cwd)
    run.wait_line("loading")
    assert mlports("status", cwd=cwd).stdout.startswith("orchestrator running")
    assert run.end() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_does_not_stop_the_services(tmp_path: Path) -> None:
    """Guards services against their own log."""
    cwd = project(tmp_path)
    with open("/dev/full", "w") as full, start("run", cwd=cwd, stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("cannot write on standard output: No space left on device")
        assert mlports("call", "test.echo", "1", cwd=cwd).stdout == "1\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_output_that_nobody_reads_does_not_hold_the_services(tmp_path: Path) -> None:
    """Guards services against a terminal that was stopped with Ctrl-S; and a closed one ends them in order."""
    cwd = project(tmp_path, CONFIG + '[orchestrator]\nlog = "debug"\n')
    with start("run", cwd=cwd) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        many = mlports("call", "test.report", "20000", cwd=cwd)  # more lines of progress than a pipe holds
        assert many.stdout == "20000\n"
        process.stdout.close()
        assert mlports("call", "test.crash", cwd=cwd).returncode == 5  # something to write
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        # The latest are kept for the reader's return; of the others their number.
        assert process.stderr.read().endswith(" lines left out: they were not read as fast as they came\n")


def test_a_state_directory_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    """Guards against a start that fails far from its reason."""
    cwd = project(tmp_path)
    (cwd / ".mlports").write_text("a file")
    done = mlports("run", cwd=cwd)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot use the state directory" in done.stderr
    assert subprocess.run(["cat", ".mlports"], cwd=cwd, capture_output=True, text=True).stdout == "a file"
