"""Flows that call services, read their streams, and run their functions in workers of their own: real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlports
from mlports import BlockingOrchestrator, ServiceConfig, UnknownMethod
from mlports.flow import Checkpoint, Flow, FlowError, FlowFailed
from tests.flow_functions import deadly, is_odd, process_of, up_to
from tests.services import running
from tests.workers import marks, program, until

BODY = """
    @worker.method(batch=True, idempotent=True)
    def double(xs):
        return [ValueError(f"no {x}") if x == 13 else 2 * x for x in xs]

    @worker.method
    def total(xs):
        return sum(xs)

    @worker.method
    def count_to(n):
        yield from range(n)

    @worker.method
    def note(path, x=None):
        mark(path) if x is None else mark(path, str(x))

    @worker.method
    def first_last(x):
        number, path = x
        if number == 0:
            wait_for(path)
        if number == 3:
            mark(path)
        return number
"""


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingOrchestrator]:
    directory = tmp_path_factory.mktemp("services")
    with mlports.open({"maths": ServiceConfig(command=program(directory, BODY), replicas=2)}) as orch:
        yield orch


def test_calls_through_a_blocking_orchestrator_keep_the_order(
    orchestrator: BlockingOrchestrator, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    report = (
        Flow.from_iterable(range(1000))
        .batch(100)
        .call("maths.double", timeout=None)
        .to_jsonl(path)
        .run(orchestrator, errors="skip")
    )
    assert path.read_text() == "".join(f"{2 * n}\n" for n in range(1000) if n != 13)
    assert (report.items, report.given, report.failed) == (1000, 999, 1)


def test_calls_that_wait_for_a_full_batch_are_worked_off_at_a_checkpoint(
    orchestrator: BlockingOrchestrator, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    flow = Flow.from_iterable(range(20, 1020)).batch(64).call("maths.double").to_jsonl(path)
    flow.run(orchestrator, checkpoint=Checkpoint(tmp_path / "journal", items=100))
    assert path.read_text() == "".join(f"{2 * n}\n" for n in range(20, 1020))


def test_a_whole_batch_is_the_argument_of_one_call(orchestrator: BlockingOrchestrator) -> None:
    assert Flow.from_iterable(range(6)).batch(3).call("maths.total", whole=True).collect(orchestrator) == [3, 12]


def test_without_order_what_is_done_first_comes_first(orchestrator: BlockingOrchestrator, tmp_path: Path) -> None:
    """The first item is answered when the last one was; it holds one of two replicas meanwhile."""
    flow = Flow.from_iterable([[number, str(tmp_path / "go")] for number in range(4)])
    made = flow.call("maths.first_last", batch=1, in_flight=2, ordered=False).collect(orchestrator)
    assert set(made) == {0, 1, 2, 3}
    assert made.index(0) >= 2, "but the last one may come in the same moment"


def test_the_item_that_a_service_refuses_is_named(orchestrator: BlockingOrchestrator) -> None:
    with pytest.raises(FlowFailed, match=r"call\(maths.double\) failed on 13: WorkerError: .*no 13") as caught:
        Flow.from_iterable(range(20)).call("maths.double").run(orchestrator)
    assert caught.value.item == 13


def test_what_would_fail_for_every_item_stops_the_flow_whatever_is_done_about_items(
    orchestrator: BlockingOrchestrator,
) -> None:
    """Guards a night's data from ending in the dead letters because of a misspelt method."""
    with pytest.raises(FlowFailed) as caught:
        Flow.from_iterable(range(20)).call("maths.dobule").run(orchestrator, errors="skip")
    assert isinstance(caught.value.__cause__, UnknownMethod)


def test_a_service_is_a_source_and_a_sink(orchestrator: BlockingOrchestrator, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    flow = Flow.from_service("maths.count_to", 5).map(lambda x: f"{notes}").to_service("maths.note")
    assert flow.run(orchestrator).given == 5
    assert len(marks(notes)) == 5
    endless = Flow.from_service("maths.count_to", 10**12).take(3)
    assert endless.collect(orchestrator) == [0, 1, 2]


async def test_everything_works_in_async_code_while_the_loop_goes_on(tmp_path: Path) -> None:
    """Guards supervision: a slow function of a flow must not hold up the event loop that services live on."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    def busy(x: int) -> int:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        return x

    async with running(maths=ServiceConfig(command=program(tmp_path, BODY))) as orch:
        ticking = asyncio.ensure_future(tick())
        flow = Flow.from_service("maths.count_to", 10).map(busy).call("maths.double")
        assert await flow.acollect(orch) == [2 * n for n in range(10)]
        ticking.cancel()
    assert turns > 10


async def test_a_cancelled_flow_lets_go_of_its_calls(tmp_path: Path) -> None:
    started = tmp_path / "started"
    body = f"""
        @worker.method
        async def hang(x):
            mark({str(started)!r})
            await asyncio.sleep(60)
    """
    async with running(slow=ServiceConfig(command=program(tmp_path, body))) as orch:
        flow = asyncio.ensure_future(Flow.from_iterable(range(9)).call("slow.hang", batch=1).arun(orch))
        await until(lambda: marks(started), "a call was under way")
        flow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flow
    # `running` checks that no call is left.


def test_run_refuses_what_belongs_to_an_event_loop() -> None:
    orchestrator = mlports.Orchestrator({"x": ServiceConfig(command=["x"])})
    with pytest.raises(FlowError, match=r"await flow\.arun"):
        Flow.from_iterable([1]).call("x.y").run(orchestrator)


# -- functions in workers


def test_functions_run_in_worker_processes() -> None:
    found = Flow.from_iterable(range(300)).map(process_of, on="workers", workers=2).collect()
    assert [x for x, _ in found] == list(range(300))
    pids = {pid for _, pid in found}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_filter_and_flat_map_run_in_workers_too() -> None:
    flow = Flow.from_iterable(range(6)).filter(is_odd, on="workers", workers=1)
    assert flow.flat_map(up_to, on="threads").collect() == [0, 0, 1, 2, 0, 1, 2, 3, 4]


def test_an_item_that_kills_its_worker_is_the_only_one_left_out() -> None:
    letters: list[Any] = []
    flow = Flow.from_iterable(range(12)).map(deadly, on="workers", workers=1)
    kept: list[int] = []
    flow.to(kept.append).run(errors=letters.append)
    assert [letter.item for letter in letters] == [7]
    assert kept == [n for n in range(12) if n != 7]


def test_functions_without_a_name_to_import_are_refused_before_anything_runs() -> None:
    with pytest.raises(FlowError, match="within a function"):
        Flow.from_iterable([1]).map(lambda x: x, on="workers").run()


def test_a_program_that_runs_its_flow_when_it_is_imported_does_not_start_workers_without_end(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from mlports.flow import Flow\n"
        "def double(x):\n    return 2 * x\n"
        "print(Flow.from_iterable(range(5)).map(double, on='workers', workers=1).collect())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)
    assert 'put what runs the flow under `if __name__ == "__main__":`' in done.stderr
    script.write_text(script.read_text().replace("print", "if __name__ == '__main__':\n    print"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout.split() == ["[0,", "2,", "4,", "6,", "8]"], done.stderr


def test_an_interrupt_while_workers_start_waits_for_no_import(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        "import os, signal, sys, time\n"
        "def same(x): return x\n"
        "if 'mlports.flow.worker_program' in ' '.join(sys.orig_argv):\n"
        "    os.kill(os.getppid(), signal.SIGINT)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import threading, endless\n"
        "from mlports.flow import Flow\n"
        "try:\n"
        "    Flow.from_iterable([1]).map(endless.same, on='workers', workers=1).run()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', threading.active_count())\n"
    )
    # Less than a worker's start may take.
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=25)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted 1\n", "", 0)
