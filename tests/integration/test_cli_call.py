"""`mlports call`, by itself and through a running orchestrator: results, errors, streams, maps, interruptions."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import CONFIG, PATIENCE, Run, mlports, project, running, start


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with running(project(tmp_path_factory.mktemp("running"))) as run:
        yield run


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that no orchestrator runs."""
    return project(tmp_path_factory.mktemp("alone"))


@pytest.fixture(params=["running", "alone"])
def folder(request: pytest.FixtureRequest, orchestrator: Run, alone: Path) -> Path:
    return orchestrator.cwd if request.param == "running" else alone


def test_a_result_is_json(folder: Path) -> None:
    """Guards pipelines: nothing but the result is on stdout."""
    (folder / "value.json").write_text('{"a": [1, null, "ü"]}\n')
    done = mlports("call", "test.add", '[-1, "a"]', "[2.5, true]", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, '[-1, "a", 2.5, true]\n', "")
    assert mlports("call", "test.echo", "-7", cwd=folder).stdout == "-7\n"
    assert mlports("call", "test.echo", "@value.json", "--json", cwd=folder).stdout == '{"a": [1, null, "ü"]}\n'


def test_an_error_is_told_with_the_traceback_of_the_worker(folder: Path) -> None:
    """Guards authors of workers: the line that raised is in the story."""
    done = mlports("call", "test.fail", '"it is wrong"', cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: test.fail: ValueError: it is wrong\nin the worker test/0:\n")
    assert "raise ValueError(text)" in done.stderr


def test_an_error_as_json(orchestrator: Run) -> None:
    """Guards programs that handle errors by their code."""
    done = mlports("call", "test.fail", '"it is wrong"', "--json", cwd=orchestrator.cwd)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, done.stderr) == (1, "")
    assert (error["code"], error["message"]) == ("unknown", "test.fail: ValueError: it is wrong")
    assert (error["service"], error["method"], error["replica"]) == ("test", "fail", 0)
    assert error["data"]["type"] == "ValueError"


def test_a_service_or_method_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    """Guards people who misspell."""
    service = mlports("call", "tset.echo", cwd=folder)
    assert service.returncode == 1
    assert "'tset'" in service.stderr
    assert "test" in service.stderr.partition("'tset'")[2]
    method = mlports("call", "test.ehco", cwd=folder)
    assert method.returncode == 1
    assert "service test has no method 'ehco'; it has: add, count, crash, echo" in method.stderr


def test_a_key_decides_which_replica_is_called(tmp_path: Path) -> None:
    """Guards services that route by a key which is none of the arguments."""
    (tmp_path / "who.py").write_text(
        "import os\nfrom mlports_worker import Worker\nworker = Worker('who')\n"
        "@worker.method\ndef who():\n    return os.getpid()\nworker.run()\n"
    )
    (tmp_path / "mlports.toml").write_text("[service.s]\ncommand = 'python who.py'\nroute = 'hash'\nreplicas = 2\n")
    done = mlports("call", "s.who", "--key", '"a"', "--tag", "t", "--priority", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    done = mlports("call", "s.who", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it has no key" in done.stderr
    for wrong, told in (("{", "--key is not JSON: {"), ("{}", "a key must be str, bytes, int")):
        done = mlports("call", "s.who", "--key", wrong, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert told in done.stderr
    done = mlports("call", "s.who", "-", "--tag", "t", cwd=tmp_path)
    assert (done.returncode, "do not go with -" in done.stderr) == (2, True)


def test_a_stream_is_printed_item_by_item(folder: Path) -> None:
    """Guards streams longer than the credit that they are given."""
    done = mlports("call", "test.count", "200", "--stream", cwd=folder)
    assert (done.returncode, done.stdout.split()) == (0, [str(n) for n in range(200)])


def test_a_map_keeps_the_order_and_the_place_of_what_fails(folder: Path) -> None:
    """Guards the use of `paste` on what went in and what came out."""
    lines = "".join(f"{n}\n" for n in range(3000))
    done = mlports("call", "test.echo", "-", cwd=folder, input=lines)
    assert (done.returncode, done.stdout) == (0, lines)
    some = mlports("call", "test.fail", "-", "--json", cwd=folder, input='"a"\n"b"')
    assert some.returncode == 1
    assert [json.loads(line)["error"]["message"] for line in some.stdout.splitlines()] == [
        "test.fail: ValueError: a",
        "test.fail: ValueError: b",
    ]


def test_a_map_ends_with_the_first_line_that_is_wrong(alone: Path) -> None:
    """Guards against errors that scroll away, and against results that are lost with them."""
    done = mlports("call", "test.echo", "-", cwd=alone, input="1\n\n2\nthree\n4\n")
    assert (done.returncode, done.stdout) == (2, "1\n2\n")
    assert "line 4 of stdin is not JSON: three" in done.stderr
    failed = mlports("call", "test.fail", "-", cwd=alone, input='"a"\n"b"')
    assert failed.returncode == 1
    assert failed.stderr.startswith("line 1 of stdin:\nerror: test.fail: ValueError: a\n")
    assert mlports("call", "test.echo", "-", cwd=alone).returncode == 0


def test_a_line_is_answered_before_the_next_is_there(orchestrator: Run) -> None:
    """Guards `tail -f | mlports call`."""
    with start("call", "test.echo", "-", cwd=orchestrator.cwd, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ("1\n", "2\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_what_json_lacks_is_written_as_documented(orchestrator: Run) -> None:
    """Guards strict readers of JSON: no NaN, no keys that are numbers, no bytes."""
    cwd = orchestrator.cwd
    assert mlports("call", "test.hard", '"bytes"', cwd=cwd).stdout == '{"$bytes": "aGk="}\n'
    assert mlports("call", "test.hard", '"nan"', cwd=cwd).stdout == '{"$float": "nan"}\n'
    assert mlports("call", "test.hard", '"keys"', cwd=cwd).stdout == '{"1": {"$float": "inf"}}\n'
    there_and_back = '[{"$bytes": "aGk="}, {"$float": "-inf"}]'
    assert mlports("call", "test.echo", there_and_back, cwd=cwd).stdout == there_and_back + "\n"


def test_a_terminal_without_the_letters_gets_escapes(orchestrator: Run) -> None:
    """Guards old terminals and the C locale."""
    done = mlports("call", "test.echo", '"ü"', cwd=orchestrator.cwd, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, '"\\u00fc"\n')
    unpaired = mlports("call", "test.echo", '"\\ud800"', cwd=orchestrator.cwd)
    assert unpaired.returncode == 1
    assert "cannot be sent" in unpaired.stderr


def test_a_number_that_is_too_large_to_be_sent_is_the_callers_error(folder: Path) -> None:
    """Guards against blame on the connection for what is wrong with an argument."""
    done = mlports("call", "test.echo", "1" * 30, "--json", cwd=folder)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "invalid_argument"


def test_a_timeout_is_status_4(orchestrator: Run) -> None:
    """Guards scripts that try again only what was late."""
    done = mlports("call", "test.hang", "1", "--timeout", "0.3", "--json", cwd=orchestrator.cwd)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "deadline_exceeded"


def test_a_crash_is_status_5_with_its_verdict(alone: Path, tmp_path: Path) -> None:
    """Guards scripts that try again what was nobody's fault."""
    with running(project(tmp_path)):
        for folder in (alone, tmp_path):
            done = mlports("call", "test.crash", cwd=folder)
            assert (done.returncode, done.stdout) == (5, "")
            assert "exited with status 7" in done.stderr
            assert "my last words" in done.stderr


def test_a_worker_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Guards the first start of a worker: what it said when it died is what its author needs."""
    text = '[service.test]\ncommand = ["python", "worker.py"]\nconfig = { broken = true }\n'
    done = mlports("call", "test.echo", "1", cwd=project(tmp_path, f"{text}[supervisor]\nintensity = 0\n"))
    assert (done.returncode, done.stdout) == (5, "")
    assert "no service could be started" in done.stderr
    assert "RuntimeError: there is no model here" in done.stderr


def test_only_the_service_that_is_called_is_started(tmp_path: Path) -> None:
    """Guards a quick call against the start of large neighbours."""
    other = '\n[service.other]\ncommand = ["false"]\n'
    folder = project(tmp_path, '[service.test]\ncommand = ["python", "worker.py"]\n' + other)
    assert mlports("call", "test.echo", "1", cwd=folder).stdout == "1\n"


def test_ctrl_c_cancels_the_call_in_the_worker(orchestrator: Run) -> None:
    """Guards a running service against work that nobody waits for any more."""
    with start("call", "test.hang", '"interrupted"', cwd=orchestrator.cwd) as process:
        orchestrator.wait_line("hanging interrupted")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    orchestrator.wait_line("let go interrupted")


def test_a_caller_that_vanishes_is_a_call_that_is_cancelled(orchestrator: Run) -> None:
    """Guards against work for the dead."""
    with start("call", "test.hang", '"vanished"', cwd=orchestrator.cwd) as process:
        orchestrator.wait_line("hanging vanished")
        process.kill()
    orchestrator.wait_line("let go vanished")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_call_of_its_own_and_the_worker(alone: Path, number: signal.Signals) -> None:
    """Guards against workers that outlive who started them; the leak check sees to it."""
    with start("call", "test.hang", "1", cwd=alone) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "test/0 | hanging 1\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted"


def test_a_reader_that_has_gone_ends_a_stream(orchestrator: Run) -> None:
    """Guards `mlports call … --stream | head`."""
    with start("call", "test.count", "1000000", "--stream", cwd=orchestrator.cwd) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_progress_is_shown_at_a_terminal_only(orchestrator: Run) -> None:
    """Guards logs against bars, and people against silence."""
    assert mlports("call", "test.report", "3", cwd=orchestrator.cwd).stderr == ""
    ours, theirs = pty.openpty()
    shown = b""
    try:
        with start("call", "test.report", "3", cwd=orchestrator.cwd, stderr=theirs, env={"TERM": "xterm"}) as process:
            os.close(theirs)
            try:
                while data := os.read(ours, 4096):
                    shown += data
            except OSError:  # how Linux tells of a terminal that nobody has open any more
                pass
            assert process.communicate(timeout=PATIENCE)[0] == "3\n"
    finally:
        os.close(ours)
    assert b"test.report at it" in shown
    assert b"3/3" in shown


PIPELINE = (
    CONFIG
    + """
[service.broken]
command = ["python", "worker.py"]
config = { broken = true }
restart = "temporary"
[pipeline.counted]
stages = ["test.echo", "test.count"]
[pipeline.failing]
stages = ["test.echo", "test.fail"]
"""
)


def test_a_pipeline_is_called_by_its_name(tmp_path: Path) -> None:
    """Guards pipelines, by themselves, when only their services are started, and through a running orchestrator."""
    folder = project(tmp_path, PIPELINE)

    def check() -> None:
        done = mlports("call", "counted", "3", "--stream", cwd=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n1\n2\n", "")

    check()
    done = mlports("call", "countde", "3", cwd=folder)
    assert done.returncode == 2
    assert "'countde' names no method: write SERVICE.METHOD, as in model.predict, or a pipeline's name" in done.stderr
    with running(folder):
        check()
        done = mlports("call", "failing", '"x"', cwd=folder)
        assert done.returncode == 1
        assert done.stderr.startswith(
            "error: in pipeline failing, stage 2 of 2 (test.fail): ValueError: x\nin the worker"
        )
        assert "counted" in mlports("status", cwd=folder).stdout
