"""Erlang and Elixir as hosts: workers in Python, Erlang and Elixir as children of a supervisor of OTP's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command_line import environment
from tests.languages import built, configuration

# The methods of workers/erlang/examples/conformance.erl, as the host's own tests call them.
_PYTHON = """\
import math
import time

from mlports_worker import Cancelled, Failure, Worker, current

worker = Worker("conformance")
kept = []


@worker.method
def echo(value):
    return value


@worker.method(idempotent=True)
def add(a, b):
    return a + b


@worker.method
def fail(message):
    raise ValueError(message)


@worker.method
def refuse(code, message):
    raise Failure(code, message)


@worker.method
def sleep(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if current().cancelled:
            raise Cancelled()
        time.sleep(0.01)
    return seconds


@worker.method(batch=True, idempotent=True)
def root(numbers):
    return [math.sqrt(x) if x >= 0 else Failure("invalid_argument", f"no root of {x}") for x in numbers]


@worker.method
def count(n):
    yield from range(n)


@worker.method(input=True)
def total(numbers):
    return sum(numbers)


@worker.method
def relay(target, params):
    return worker.call(target, *params)


@worker.method
def note(level, text):
    worker.log(level, text)


@worker.method
def mark(value):
    kept.append(value)


@worker.method
def marks():
    return kept


worker.run()
"""


def terms(tmp_path: Path, language: str) -> Path:
    """The workers that a host is tested with, as a file of Erlang terms: in Python, and in the other language."""
    program = tmp_path / "conformance.py"
    program.write_text(_PYTHON)
    sister = {"erlang": "elixir", "elixir": "erlang"}[language]
    shell, launcher, folder, module = configuration(sister).service["conformance"].command
    home = built(sister)
    commands = {
        "python": [sys.executable, str(program)],
        sister: [shell, str(home / launcher), str(home / folder), module],
    }
    hosted = tmp_path / "hosted.terms"
    quoted = {name: ", ".join(f'"{word}"' for word in command) for name, command in commands.items()}
    hosted.write_text("".join(f'{{"{name}", [{words}]}}.\n' for name, words in quoted.items()))
    return hosted


@pytest.mark.parametrize("language", ["erlang", "elixir"])
def test_workers_of_any_language_are_children_of_a_supervisor(language: str, tmp_path: Path) -> None:
    folder = built(language)
    env = {**os.environ, "MLPORTS_HOSTED": str(terms(tmp_path, language))}
    ended = subprocess.run(
        ["make", "--no-print-directory", "hosted"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=55,
        check=False,
    )
    # What failed stands before the reports of all the deaths that were meant.
    failure = ended.stdout[max(ended.stdout.find("  1) test"), 0) :]
    assert ended.returncode == 0, failure[:6000] + ended.stderr[-6000:]


_HOSTS = {
    "erlang": ["erl", "-noinput", "-pa", "build", "-s", "host", "main", "-extra"],
    "elixir": ["elixir", "-pa", "build", "examples/host.exs"],
}


def run_example_host(language: str, *arguments: str) -> list[str]:
    """The last three lines that the example host in this language prints, given METHOD ARGUMENT COMMAND…"""
    folder = built(language)
    ended = subprocess.run(
        [*_HOSTS[language], *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()[-3:]


@pytest.mark.parametrize("language", _HOSTS)
def test_the_example_host_outlives_its_worker(language: str, tmp_path: Path) -> None:
    """It calls, kills the worker itself, and calls again; the worker ends with the node."""
    program = tmp_path / "conformance.py"
    program.write_text(_PYTHON)
    assert run_example_host(language, "echo", "hello", sys.executable, str(program)) == [
        "echo gave hello",
        "killed while it was called: unavailable",
        "echo gave hello",
    ]


@pytest.mark.parametrize("language", _HOSTS)
def test_the_example_host_has_a_whole_orchestrator_through_one_port(language: str, tmp_path: Path) -> None:
    """What it kills is the orchestrator, whose workers go with it; OTP starts another one, in the same folder."""
    (tmp_path / "conformance.py").write_text(_PYTHON)
    (tmp_path / "mlports.toml").write_text('[service.inner]\ncommand = ["python", "conformance.py"]\n')
    port = [sys.executable, "-m", "mlports", "port", "-c", str(tmp_path / "mlports.toml")]
    assert run_example_host(language, "inner.echo", "hello", *port) == [
        "inner.echo gave hello",
        "killed while it was called: unavailable",
        "inner.echo gave hello",
    ]
