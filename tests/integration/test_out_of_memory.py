"""A worker that the kernel kills because memory has run out: its verdict says so, with the figures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlports import Orchestrator, ServiceConfig, WorkerCrashed
from mlports.runtime.out_of_memory import killed_by_kernel
from tests.workers import program

GROUPS = Path("/sys/fs/cgroup/memory")
MIB = 2**20
GREEDY = """
@worker.method
def enters(group):
    mark(group + "/cgroup.procs", str(os.getpid()))
    return os.getpid()

@worker.method
def takes(mebibytes):
    return len(bytearray(os.urandom(1)) * (mebibytes << 20))

@worker.method
def waits():
    time.sleep(600)
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 64 MiB."""
    group = GROUPS / f"mlports-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 * MIB))
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error}")
    yield group
    with suppress(OSError):
        group.rmdir()


async def test_the_verdict(tmp_path: Path, small_group: Path) -> None:
    command = program(tmp_path, GREEDY, "greedy")
    async with Orchestrator(services={"greedy": ServiceConfig(command=command)}) as orch:
        pid = await orch.call("greedy.enters", str(small_group))
        with pytest.raises(WorkerCrashed) as caught:
            await orch.call("greedy.takes", 200)
        verdict = caught.value.verdict
        assert verdict is not None
        assert (verdict.cause, verdict.name, verdict.pid) == ("out_of_memory", "out_of_memory", pid)
        assert verdict.status == -signal.SIGKILL
        assert "ran out of memory: the kernel killed it by SIGKILL (" in verdict.detail
        assert "MiB resident" in verdict.detail or "may not be read" in verdict.detail
        # The count of such deaths is now higher, and the next one is no such death all the same.
        other = orch.status()["services"]["greedy"]["replicas"][0]
        while other["pid"] in (None, pid) or other["state"] != "ready":
            await orch.call("greedy.takes", 1)
            other = orch.status()["services"]["greedy"]["replicas"][0]
        call = orch.call("greedy.waits")
        os.kill(other["pid"], signal.SIGKILL)
        with pytest.raises(WorkerCrashed) as caught:
            await call
        assert caught.value.verdict is not None
        assert caught.value.verdict.detail == "was killed by SIGKILL"


LOG = [
    "6,1,1,-;Linux version",
    "3,2,2,-;Memory cgroup out of memory: Killed process 41 (python3) total-vm:2048kB, anon-rss:1024kB, file-rss:8kB\n",
    "3,3,3,-;Out of memory: Killed process 42 (node) total-vm:1048576kB, anon-rss:524288kB, file-rss:0kB, UID:0\n",
    "3,4,4,-;Out of memory: Killed process 43 (odd)\n",
]


@pytest.mark.parametrize(
    ("pid", "told"),
    [
        (41, "the memory of its control group was used up; it had 1.0 MiB resident, 2.0 MiB virtual"),
        (42, "the memory of the machine was used up; it had 512.0 MiB resident, 1024.0 MiB virtual"),
        (43, "the memory of the machine was used up; it had size unknown"),
        (4, None),
    ],
)
def test_the_kernels_log(pid: int, told: str | None) -> None:
    assert killed_by_kernel(LOG, pid) == ((told is not None), told or "")
