"""The same rows through the same two programs, opened by an orchestrator of this project, and by an Erlang node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgpack

from mlports import CallError, Config, Orchestrator, load_config
from mlports.cli.shipped import sdk

HERE = Path(__file__).resolve().parent
ERLANG = sdk("erlang")

Answer = list[Any]
"""[error, result] of a call: an error is its code and message."""


async def by_mlports(rows: list[list[float]], model: Path) -> dict[str, list[Answer]]:
    """Through an orchestrator, with the SDK and without."""
    there = load_config(HERE / "mlports.toml")
    sdk = there.service["sdk"].model_copy(update={"config": {"model": str(model)}})
    bare = there.service["bare"].model_copy(update={"command": [*there.service["bare"].command[:-1], str(model)]})
    async with Orchestrator(config=Config(service={"sdk": sdk, "bare": bare}, directory=there.directory)) as orch:
        return {f"{name}, mlports": await _ask(orch, name, rows) for name in ("bare", "sdk")}


async def _ask(orch: Orchestrator, service: str, rows: list[list[float]]) -> list[Answer]:
    answers: list[Answer] = []
    for row in rows:
        try:
            answers.append([None, await orch.call(f"{service}.predict", row)])
        except CallError as error:
            answers.append([[error.code, error.message.removeprefix(f"{service}.predict: ")], None])
    return answers


def erlang_is_missing() -> str:
    """What there is to install, or nothing."""
    missing = [program for program in ("erl", "erlc") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not installed here (Debian: erlang-base)"
    return "" if ERLANG is not None else "this installation of mlports came without its modules"


def by_erlang(rows: list[list[float]], model: Path) -> dict[str, list[Answer]]:
    """Through an Erlang node: its ports alone, with the SDK at the other end and without, and by `mlports_port`."""
    assert ERLANG is not None
    with tempfile.TemporaryDirectory() as folder:
        given, told = Path(folder) / "rows", Path(folder) / "answers"
        given.write_bytes(msgpack.packb(rows))
        sources = [str(path) for path in [*sorted((ERLANG / "mlports").glob("*.erl")), HERE / "erlang_host.erl"]]
        _run("erlc", "-o", folder, *sources)
        programs = [sys.executable, str(HERE / "ml_model.py"), str(HERE / "bare_model.py")]
        host = ["erl", "-noinput", "-pa", folder, "-s", "erlang_host", "main", "-extra"]
        _run(*host, str(given), str(model), *programs, str(told))
        answers = msgpack.unpackb(told.read_bytes())
    return {way: [_plain(answer) for answer in each] for way, each in answers.items()}


def _run(*command: str) -> None:
    # Erlang wants a home, and an end to its time, in case that it waits for a program that says nothing.
    env = {"HOME": "/", **os.environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stdout + done.stderr)[-2000:]}")


def _plain(answer: Answer) -> Answer:
    error, result = answer
    return [error and [error["code"], error["message"]], result]
