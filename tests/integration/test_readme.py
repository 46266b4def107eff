"""The README's examples, run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"<!-- run -->\n```sh\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_has_all_that_it_should_show() -> None:
    assert {"squares.py", "mlports.toml", "blocking.py", "asynchronous.py", "bare.py", "bare.toml"} <= set(FILES)
    assert len(COMMANDS) == 3


def test_the_worker_has_twelve_lines_and_the_bare_one_thirty() -> None:
    assert len(FILES["squares.py"].rstrip().splitlines()) <= 13
    code = [line for line in FILES["bare.py"].splitlines() if line.strip()]
    assert len(code) <= 30


def printed_by(folder: Path, command: str) -> str:
    first, *arguments = shlex.split(command)
    assert first == "mlports"
    return run(folder, sys.executable, "-m", "mlports", *arguments)


@pytest.mark.parametrize(("command", "printed"), [*zip(COMMANDS[:2], ["144", '"desserts"'], strict=True)])
def test_commands_print_what_they_should(folder: Path, command: str, printed: str) -> None:
    assert printed_by(folder, command).strip() == printed


def test_the_bare_worker_is_checked(folder: Path) -> None:
    assert json.loads(printed_by(folder, COMMANDS[2]))["level_as_far_as_tried"] == "bare"


@pytest.mark.parametrize(
    ("name", "printed"), [("blocking.py", "144\n332833500\n"), ("asynchronous.py", "144\n[0, 1, 4, 9, 16]\n")]
)
def test_programs_print_what_they_should(folder: Path, name: str, printed: str) -> None:
    assert run(folder, sys.executable, name) == printed


def test_a_model_without_a_line_of_code(folder: Path) -> None:
    pytest.importorskip("sklearn", reason="the extra `models` is not installed")
    score, prediction = run(folder, sys.executable, "forest.py").splitlines()
    assert float(score) > 0.95
    assert prediction == "0"
    assert (folder / "forest.skops").stat().st_size > 1000
