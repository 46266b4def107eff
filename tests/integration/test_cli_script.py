"""`mlports script`: the program's own outputs and status, or both as JSON."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.command_line import PATIENCE, mlports, start


def _script(folder: Path, text: str, name: str = "program.sh") -> str:
    (folder / name).write_text(text)
    return name


def test_what_it_prints_and_its_status_pass_through(tmp_path: Path) -> None:
    """Guards programs in pipelines: the command around them is not to be noticed."""
    name = _script(tmp_path, 'read line; echo "out $line $*"; echo err >&2; exit 7\n')
    done = mlports("script", name, "--json", "-c", "--", "a b", cwd=tmp_path, input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out in --json -c -- a b\n", "err\n")


def test_its_output_comes_as_it_is_made(tmp_path: Path) -> None:
    """Guards long programs: what is printed is seen before they end."""
    name = _script(tmp_path, "import sys\nprint('first', flush=True)\nsys.stdin.read()\n", "program.py")
    with start("script", name, cwd=tmp_path, stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_as_json(tmp_path: Path) -> None:
    """Guards scripts that look at the outputs."""
    done = mlports("script", "--json", _script(tmp_path, "echo out; echo err >&2; exit 3\n"), cwd=tmp_path)
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (3, "")
    assert (result["status"], result["stdout"], result["stderr"]) == (3, "out\n", "err\n")
    assert result["seconds"] > 0


def test_a_signal_is_128_and_its_number(tmp_path: Path) -> None:
    """Guards callers that look at the status as a shell would."""
    assert mlports("script", _script(tmp_path, "kill -KILL $$\n"), cwd=tmp_path).returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_one_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path, as_json: list[str]) -> None:
    """Guards against programs that hang; the leak check sees to what they started."""
    name = _script(tmp_path, "echo begun; sleep 100 & sleep 100\n")
    done = mlports("script", "--timeout", "0.5", *as_json, name, cwd=tmp_path)
    assert done.returncode == 124
    assert "took longer than 0.5 s" in done.stderr
    if as_json:
        result = json.loads(done.stdout)
        assert (result["status"], result["stdout"]) == (None, "begun\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    """Guards Ctrl-C."""
    with start("script", _script(tmp_path, "echo begun; sleep 100\n"), cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


def test_what_cannot_be_run_is_explained(tmp_path: Path) -> None:
    """Guards against a status that could be taken for the program's own story."""
    done = mlports("script", "missing.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot run missing.py: it does not exist" in done.stderr
    as_json = mlports("script", "--json", _script(tmp_path, "", "data.csv"), cwd=tmp_path)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["error"]["code"] == "script_failed"
