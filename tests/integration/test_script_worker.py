"""Functions of a file that knows nothing of workers, served by one, in a process and inline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlports import CallError, InvalidArgument, Orchestrator, ServiceConfig, StartFailed, UnknownMethod, WorkerError
from tests.integration.command_line import environment

FILE = """
import asyncio, sys
print("loading: no harm")
slope = 1.0

def load(by):
    global slope
    slope = by

def predict(x, y=0):
    print("predicting: no harm")
    return slope * x + y

def roots(xs):
    return [x ** 0.5 if x >= 0 else ValueError(f"no root of {x}") for x in xs]

def leaves(status):
    return quit_deeper(status)

def quit_deeper(status):
    sys.exit(status)

def wrong():
    return 1 + "a"

def thing():
    return object()

def count(n):
    for i in range(n):
        if i == 5:
            sys.exit("at five")
        yield i

async def acount(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i

together, met = 0, None

async def meet(n):
    global together, met
    met = met or asyncio.Event()
    together += 1
    if together == n:
        met.set()
    await met.wait()
    return n
"""
FUNCTIONS = ["predict", "roots", "leaves", "wrong", "thing", "count", "acount", "meet"]


def service(folder: Path, transport: Any = "stdio", **config: Any) -> ServiceConfig:
    (folder / "score.py").write_text(FILE)
    env = {} if transport == "inline" else environment()
    command = ["python", "-m", "mlports_models.script"]
    config = {"file": str(folder / "score.py"), **config}
    return ServiceConfig(command=command, env=env, transport=transport, config=config, start_timeout="60s")


@pytest.mark.parametrize("transport", ["stdio", "inline"])
async def test_functions_are_methods(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # so that it is taken away again: inline, the worker's path is ours
    config = {"functions": FUNCTIONS, "batch": ["roots"], "setup": "load", "settings": {"by": 3.0}}
    async with Orchestrator({"score": service(tmp_path, transport, **config)}) as orch:
        assert await orch.call("score.predict", 2) == 6
        assert await orch.call("score.predict", 2, 1) == 7
        with pytest.raises(InvalidArgument, match=r"called with 0 arguments; it takes \(x, y=0\)"):
            await orch.call("score.predict")
        roots = await orch.map("score.roots", [4, -1, 9], return_exceptions=True)
        assert (roots[0], str(roots[1]), roots[2]) == (2, "score.roots: ValueError: no root of -1", 3)
        with pytest.raises(WorkerError, match=r"leaves called sys\.exit\(3\)") as left:
            await orch.call("score.leaves", 3)
        assert "in quit_deeper" in str(left.value.remote_traceback)
        with pytest.raises(WorkerError, match="TypeError: unsupported operand") as wrong:
            await orch.call("score.wrong")
        assert "exits.py" not in str(wrong.value.remote_traceback)
        with pytest.raises(CallError, match="the result of thing cannot be sent"):
            await orch.call("score.thing")
        assert [item async for item in orch.stream("score.count", 3)] == [0, 1, 2]
        with pytest.raises(WorkerError, match=r"count called sys\.exit\('at five'\)"):
            [item async for item in orch.stream("score.count", 9)]
        assert [item async for item in orch.stream("score.acount", 2)] == [0, 1]
        assert await asyncio.gather(*(orch.call("score.meet", 20) for _ in range(20))) == [20] * 20
        assert (await orch.call("score.schema"))["predict"]["signature"] == "(x, y=0)"
        with pytest.raises(UnknownMethod):
            await orch.call("score.load")
        assert orch.status()["services"]["score"]["replicas"][0]["restarts"] == 0


async def test_one_that_cannot_be_served_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="did you mean 'predict'"):
        async with Orchestrator({"score": service(tmp_path, function="predictt")}):
            pass


async def test_a_set_up_that_raises_is_shown(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"Exited: leaves called sys\.exit"):
        async with Orchestrator(
            {"score": service(tmp_path, function="predict", setup="leaves", settings={"status": 0})}
        ):
            pass


async def test_the_file_s_own_schema_is_served(tmp_path: Path) -> None:
    settings = service(tmp_path, functions=["schema"])
    (tmp_path / "score.py").write_text("def schema():\n    return 'mine'\n")
    async with Orchestrator({"score": settings}) as orch:
        assert await orch.call("score.schema") == "mine"
