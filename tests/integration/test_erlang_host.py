"""An Erlang node opens a worker of the Python SDK directly, with nothing of ours on its side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workers import program

HOST = Path(__file__).with_name("open_port.escript")
WORKER = """
@worker.method
def double(x):
    print("to standard output, where it hurts nobody")
    return x + x

@worker.method
def configured():
    return current().config["answer"]

@worker.method
def fails():
    raise ValueError("as asked")

@worker.method
def blocks(seconds):
    time.sleep(seconds)
    return "done"

@worker.method
def count(n):
    yield from range(n)
"""


def run_host(*command: str) -> subprocess.CompletedProcess[str]:
    escript = shutil.which("escript")
    if escript is None:
        pytest.skip("escript (Erlang) is not installed here")
    # Erlang wants a home to keep its cookie in, and does not ask for one that it can read.
    env = {"HOME": "/", **os.environ}
    return subprocess.run(
        [escript, str(HOST), *command], capture_output=True, text=True, timeout=50, env=env, check=False
    )


def test_an_erlang_node_opens_a_worker(tmp_path: Path) -> None:
    ended = run_host(*program(tmp_path, WORKER, "raw"))
    assert (ended.stdout, ended.returncode) == ("ok\n", 0), ended.stderr


def test_the_worker_ends_with_the_node(tmp_path: Path) -> None:
    """Erlang closes its pipes and never kills it. That it is gone is what every test's check for leaks says."""
    script = tmp_path / "quits.escript"
    script.write_text(
        "#!/usr/bin/env escript\n"
        "main([Program | Arguments]) ->\n"
        "    open_port({spawn_executable, Program}, [{args, Arguments}, {packet, 4}, binary]),\n"
        '    io:format("opened~n").\n'
    )
    escript = shutil.which("escript")
    if escript is None:
        pytest.skip("escript (Erlang) is not installed here")
    _, worker = program(tmp_path, WORKER, "raw")
    ended = subprocess.run(
        [escript, str(script), sys.executable, worker],
        capture_output=True,
        text=True,
        timeout=50,
        env={"HOME": "/", **os.environ},
        check=False,
    )
    assert (ended.stdout, ended.returncode) == ("opened\n", 0), ended.stderr
