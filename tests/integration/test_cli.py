"""What holds for every command: help, wrong usage, wrong configurations, and outputs that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from mlports.cli.app import app
from tests.integration.command_line import PATIENCE, environment, mlports, project, start

COMMANDS = [
    *("init", "run", "call", "status", "events", "stop", "script", "simulate", "demo", "release"),
    *("port", "check", "replay"),
]


def test_help_lists_the_commands_and_the_exit_statuses(tmp_path: Path) -> None:
    """Guards the one place where exit statuses are documented."""
    done = mlports("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert "130  interrupted" in done.stdout


def test_every_command_has_json(tmp_path: Path) -> None:
    """Guards scripts, which want every command's output as JSON."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted(COMMANDS)
    for command in commands.values():
        assert "--json" in [option for parameter in command.params for option in parameter.opts]
        assert command.help


def test_help_loads_nothing_that_is_slow(tmp_path: Path) -> None:
    """Guards start-up time: what takes long to load is loaded by the commands that need it."""
    code = (
        "import sys\nsys.argv[1:] = ['--help']\nfrom mlports.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print('loaded:', {'asyncio', 'pydantic', 'rich', 'msgpack', 'numpy', 'uvloop'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.endswith("loaded: set()\n"), done.stdout + done.stderr


def test_version(tmp_path: Path) -> None:
    """Guards bug reports."""
    assert mlports("--version", cwd=tmp_path).stdout == "mlports 0.1.0\n"


def test_completion_is_shown_for_a_shell(tmp_path: Path) -> None:
    """Guards completion without rich and without a terminal."""
    done = mlports(
        cwd=tmp_path, env={"_MLPORTS_COMPLETE": "complete_bash", "COMP_WORDS": "mlports st", "COMP_CWORD": "1"}
    )
    assert done.stdout.split() == ["status", "stop"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["call"],
        ["call", "method"],
        ["call", "test.echo", "--timeout", "0"],
        ["call", "test.echo", "--timeout", "nan"],
        ["call", "test.echo", "--nonsense", "1"],
        ["call", "test.echo", "-", "1"],
        ["call", "test.echo", "NaN"],
        ["call", "test.echo", "@missing.json"],
        ["call", "test.echo", '{"$bytes": "?"}'],
        ["call", "test.echo", "[" * 100_000],
        ["events", "-n", "-1"],
        ["init", ".", "--name", "Not A Name"],
        ["run", "-c", "missing.toml"],
    ],
)
def test_wrong_usage_is_status_2_and_says_why(tmp_path: Path, arguments: list[str]) -> None:
    """Guards scripts against taking a typing error for a failed call, and people against tracebacks."""
    done = mlports(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rror: " in done.stderr


def test_text_without_quotes_is_explained(tmp_path: Path) -> None:
    """Guards the first mistake that everybody makes: shells take the quotes away that JSON needs."""
    done = mlports("call", "test.echo", "hello", cwd=tmp_path)
    assert done.returncode == 2
    assert "argument 1 is not JSON: hello" in done.stderr
    assert "'\"hello\"'" in done.stderr
    assert (
        json.loads(mlports("call", "test.echo", "hello", "--json", cwd=tmp_path).stdout)["error"]["code"]
        == "wrong_usage"
    )


@pytest.mark.parametrize("command", [["run"], ["call", "test.echo"], ["status"]])
def test_a_wrong_configuration_names_file_line_key_and_fix(tmp_path: Path, command: list[str]) -> None:
    """Guards everybody who edits a configuration."""
    (tmp_path / "mlports.toml").write_text('[service.test]\ncommand = ["true"]\nreplica = 2\n')
    done = mlports(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'mlports.toml:3: service.test.replica: there is no such key. Fix: did you mean "replicas"?' in done.stderr


def test_a_wrong_configuration_as_json(tmp_path: Path) -> None:
    """Guards editors and scripts that want to go to the line."""
    (tmp_path / "mlports.toml").write_text('[service.test]\ncommand = ["true"]\nreplica = 2\nqueue = -1\n')
    done = mlports("status", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert (error["code"], error["line"], error["key"]) == ("config", 3, "service.test.replica")
    assert [one["line"] for one in error["errors"]] == [3, 4]


@pytest.mark.parametrize("command", [["status"], ["stop"]])
def test_no_orchestrator_is_status_3(tmp_path: Path, command: list[str]) -> None:
    """Guards scripts that ask whether there is one."""
    project(tmp_path)
    done = mlports(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no orchestrator is running here" in done.stderr


def test_a_bug_is_one_line_and_where_it_is_only_when_asked_for(tmp_path: Path) -> None:
    """Guards people against tracebacks of ours, and us against reports without one."""
    project(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "pydantic.py").write_text("raise RuntimeError('this is broken')\n")
    search_path = os.pathsep.join([str(broken), environment()["PYTHONPATH"]])
    done = mlports("status", cwd=tmp_path, env={"PYTHONPATH": search_path})
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: RuntimeError: this is broken"
    assert "this is a bug in mlports; set MLPORTS_TRACEBACK=1" in done.stderr
    with start("status", cwd=tmp_path, env={"PYTHONPATH": search_path, "MLPORTS_TRACEBACK": "1"}) as process:
        assert "Traceback" in process.communicate(timeout=PATIENCE)[1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["script", "--json", "true.sh"]])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """Guards against results that are lost in silence."""
    (tmp_path / "true.sh").write_text("exit 0\n")
    with open("/dev/full", "w") as full:
        done = mlports(*arguments, cwd=tmp_path, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write on standard output: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error_to_talk_about(tmp_path: Path) -> None:
    """Guards `mlports … | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        (tmp_path / "true.sh").write_text("exit 0\n")
        for arguments in (["--help"], ["--version"], ["script", "--json", "true.sh"]):
            done = mlports(*arguments, cwd=tmp_path, stdout=writer)
            assert (done.returncode, done.stderr) == (1, "")
    finally:
        os.close(writer)


def test_init_makes_a_project_that_runs_as_it_stands(tmp_path: Path) -> None:
    """Guards everybody's first minute."""
    made = mlports("init", "new", "--name", "line", cwd=tmp_path)
    assert made.returncode == 0
    assert made.stdout.splitlines()[:3] == ["made new/mlports.toml", "made new/worker.py", "made new/README.md"]
    done = mlports("call", "line.predict", "-", cwd=tmp_path / "new", input="1\n-2\n\n0.5\n")
    assert (done.returncode, done.stdout) == (0, "4.0\n-5.0\n2.5\n")
    described = mlports("call", "line.describe", "-c", "new", cwd=tmp_path)
    assert json.loads(described.stdout) == {"kind": "line", "slope": 3.0, "intercept": 1.0}
    assert described.stderr.endswith(" | somebody asked what this is\n")
    streamed = mlports("call", "line.steps", "3", "0", "--stream", cwd=tmp_path / "new")
    assert streamed.stdout == "1\n2\n3\n"


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Guards work that is there."""
    (tmp_path / "worker.py").write_text("mine")
    done = mlports("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "worker.py is there already: nothing was made" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["worker.py"]
    assert (tmp_path / "worker.py").read_text() == "mine"


def test_init_as_json_and_where_nothing_can_be_made(tmp_path: Path) -> None:
    """Guards scripts that make projects."""
    made = mlports("init", "new", "--json", cwd=tmp_path)
    assert json.loads(made.stdout)["files"] == ["new/mlports.toml", "new/worker.py", "new/README.md"]
    (tmp_path / "file").write_text("")
    done = mlports("init", "file", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot make file" in done.stderr
