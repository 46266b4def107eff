"""The neural_net worker through an orchestrator: its methods as callers see them, and a million rows an epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import CallError, Orchestrator, ServiceConfig, StartFailed
from tests.workers import until

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "OPENBLAS_NUM_THREADS": "1",
}


def service(**config: object) -> ServiceConfig:
    return ServiceConfig(
        command=["python", "-m", "mlports_models.neural_net"],
        env=ENV,
        config=config,
        start_timeout="60s",
        shared_memory=False,  # segments that wait to be used again would be taken for a test's leak
    )


async def test_it_is_started_learns_answers_and_goes_on_elsewhere() -> None:
    rows, targets = [[a, b] for a in ("u", "v") for b in ("x", "y")], [0, 1, 1, 0]
    async with Orchestrator({"net": service(seed=3), "other": service(layers=[2, 2, 1])}) as orch:
        with pytest.raises(CallError, match="start_link"):
            await orch.call("net.predict", [1, 2])
        assert await orch.call("net.start_link", [2, 6, 1]) == {
            "layers": [2, 6, 1],
            "weights": 25,
            "factors": 0,
            "epochs": 0,
            "steps": 0,
        }
        with pytest.raises(CallError, match="rate is above 0"):
            await orch.call("net.start_link", [2, 6, 1], {"rate": -1})
        first = await orch.call("net.backprop", rows, targets)
        told = await orch.call("net.fit", rows * 16, targets * 16, 60)
        assert (told["epochs"], len(told["losses"])) == (60, 60)
        assert told["losses"][-1] < 0.3 * first
        answers = await orch.map("net.predict", rows)
        assert [bool(answer[0] > 0.5) for answer in answers] == [False, True, True, False]
        assert (await orch.call("net.evaluate", rows, targets))["accuracy"] == 1.0

        state = await orch.call("net.snapshot")
        assert (await orch.call("other.restore", state))["factors"] == 4
        np.testing.assert_array_equal(await orch.call("other.predict", rows), await orch.call("net.predict", rows))
        assert await orch.call("other.backprop", rows, targets) == await orch.call("net.backprop", rows, targets)


async def test_a_wrong_config_ends_it_with_the_reason() -> None:
    with pytest.raises(StartFailed, match="tanh, sigmoid, relu"):
        async with Orchestrator({"net": service(layers=[1, 1], hidden="step")}):
            pass


ROWS, BLOCK = 1_000_000, 4_000
BLOCKS_AT_ONCE = 40 * 1024  # KiB: 8 MiB that wait, what is worked on, and the allocator's own


def peak_memory(pid: int) -> int:
    """KiB that a process has had resident at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
async def test_a_million_rows_an_epoch_take_no_more_memory_than_a_few_blocks() -> None:
    """The rows are 80 MB; what the worker grows by is what a few blocks need."""
    random = np.random.default_rng(0)
    line = random.normal(size=10)

    def blocks() -> Iterator[Any]:
        for _ in range(ROWS // BLOCK):
            x = random.normal(size=(BLOCK, 10))
            yield [x, (x @ line > 0).astype(float)]

    async with Orchestrator({"net": service(layers=[10, 8, 1], batch=500, rate=0.003)}) as orch:
        x = random.normal(size=(2000, 10))
        await orch.call("net.evaluate", x, (x @ line > 0).astype(float))
        status: Any = orch.status()
        pid = status["services"]["net"]["replicas"][0]["pid"]
        before = peak_memory(pid)
        told = await orch.call("net.fit_stream", input=blocks(), timeout=60)
        assert told["rows"] == ROWS
        assert peak_memory(pid) - before < BLOCKS_AT_ONCE < ROWS * 80 / 1024 / 1.5
        assert (await orch.call("net.evaluate", x, (x @ line > 0).astype(float)))["accuracy"] > 0.97


async def test_killed_it_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    """The steps after the kill are those that a network which was never killed takes."""
    rows, targets = [["u", 1.0], ["v", 0.5], [None, -1.0]], [1, 0, 1]
    keeps = {"dir": str(tmp_path), "every": 1}
    services = {"net": service(layers=[2, 3, 1], snapshot=keeps), "whole": service(layers=[2, 3, 1])}
    async with Orchestrator(services) as orch:
        for _ in range(3):
            await orch.call("net.backprop", rows, targets)
            await orch.call("whole.backprop", rows, targets)
        status: Any = orch.status()
        pid = status["services"]["net"]["replicas"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists(), "it was dead")
        for _ in range(3):
            killed = await orch.call("net.backprop", rows, targets, timeout=20)
            assert killed == await orch.call("whole.backprop", rows, targets)
        assert (await orch.call("net.info"))["steps"] == 6
