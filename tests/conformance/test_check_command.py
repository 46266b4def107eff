"""`mlports check` and pytest: the kit as it is used."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mlports.testing.conformance import all_rows
from tests.integration.command_line import PACKAGES, ROOT

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES)), "NO_COLOR": "1"}


def mlports_check(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlports", "check", *words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_command_passes_and_fails_by_its_status(tmp_path: Path) -> None:
    junit = tmp_path / "result.xml"
    done = mlports_check("--junit", str(junit), "--", sys.executable, str(HERE / "bare.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Level: bare" in done.stdout
    suite = ElementTree.parse(junit).getroot()[0]
    assert int(suite.attrib["tests"]) == len(suite)
    assert suite.attrib["failures"] == "0"

    wrong = ["--only", "special-floats", "--only", "lone-request", "--junit", str(junit)]
    done = mlports_check(*wrong, "--", sys.executable, str(HERE / "mutants.py"), "loses-nan")
    assert done.returncode == 1
    assert "1 passed, 1 failed" in done.stdout
    suite = ElementTree.parse(junit).getroot()[0]
    assert [case.attrib["name"] for case in suite if case.find("failure") is not None] == ["special-floats"]


def test_the_command_speaks_json() -> None:
    done = mlports_check("--json", "--only", "lone-request", "--", sys.executable, str(HERE / "bare.py"))
    said = json.loads(done.stdout)
    assert said["passed"] is True
    assert [one["outcome"] for one in said["checks"]] == ["passed"]
    listed = mlports_check("--list", "--json").stdout.splitlines()
    assert [json.loads(line)["name"] for line in listed] == [row.name for row in all_rows()]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "there is no command"),
        (["--", ""], 2, "there is no command"),
        (["--level", "perfect", "--", "true"], 2, "--level is bare, standard or full"),
        (["--only", "nothing", "--", "true"], 2, "no check is called 'nothing'"),
        (["--timeout", "nan", "--", "true"], 2, "--timeout"),
        (["--", "./no-such-program"], 2, "no such program"),
        (["--junit", "/no/such/folder/x.xml", "--", "true"], 2, "cannot write"),
        (["--", "true"], 1, "nothing could be checked"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_tells_wrong_usage(words: list[str], status: int, told: str) -> None:
    done = mlports_check(*words)
    assert done.returncode == status, done.stdout + done.stderr
    assert told in done.stdout + done.stderr


def test_a_relative_program_is_found_from_the_current_directory(tmp_path: Path) -> None:
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'bare.py'))}\n")
    program.chmod(0o755)
    done = mlports_check("--only", "lone-request", "--", "./worker", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# -- pytest


def test_pytest_runs_a_test_for_each_row(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "mlports.testing.pytest_plugin", "-p", "no:cacheprovider"),
        *("--pyargs", "mlports.testing.conformance", "-k", "floats or lone", "--worker"),
    ]

    alone = {**ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the plugins of these tests take long to load

    def run(worker: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, worker], cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=50, check=False
        )

    done = run(f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'bare.py'))}")
    assert "5 passed" in done.stdout, done.stdout + done.stderr
    done = run(f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'mutants.py'))} loses-nan")
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    done = run("cat")
    assert done.returncode == 1
    assert "as cat does" in done.stdout + done.stderr


def test_the_kit_does_not_need_pytest() -> None:
    code = "import sys, mlports.testing.conformance as kit; kit.all_rows(); sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=False).returncode == 0
