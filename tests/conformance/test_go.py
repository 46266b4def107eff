"""The SDK for Go: the conformance kit, its own tests, its example against scikit-learn, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import msgpack
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import mlports
from mlports import Orchestrator, ServiceConfig
from mlports.testing.conformance import check
from tests.languages import built, configuration, new_project, own_tests
from tests.workers import until


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("go")


def frames(*messages: list[Any]) -> bytes:
    payloads: list[bytes] = [msgpack.packb(message) for message in messages]
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def hello(least: int, most: int) -> bytes:
    return frames([0, 0, "$/hello", [{"protocol": {"min": least, "max": most}}]])


def run(folder: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """The conformance worker, given this and then the end of its input."""
    return subprocess.run([folder / "build" / "conformance"], input=data, capture_output=True, timeout=10, check=False)


def replica(orch: Orchestrator) -> dict[str, Any]:
    first: dict[str, Any] = orch.status()["services"]["conformance"]["replicas"][0]
    return first


def test_the_conformance_worker_is_at_level_full(folder: Path) -> None:
    report = check(["build/conformance"], cwd=folder, level="full")
    assert report.passed, str(report)


def test_its_own_tests_pass(folder: Path) -> None:
    own_tests(folder)


def test_boosted_classes_are_those_of_scikit_learn(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    held_out = np.arange(len(x)) % 4 == 0
    theirs = HistGradientBoostingClassifier(
        max_iter=5, max_depth=3, max_leaf_nodes=None, min_samples_leaf=20, early_stopping=False
    )
    with threadpool_limits(1):  # its threads wait for each other by spinning, long on a machine that does more
        theirs.fit(x[~held_out], y[~held_out])
    with mlports.open(configuration("go")) as orch:
        fitted = orch.call("boosting.fit", x[~held_out], y[~held_out], {"rounds": 5, "depth": 3})
        ours = np.array(orch.call("boosting.predict", x[held_out]))
    assert (fitted["trees"], fitted["classes"]) == (50, list(range(10)))
    assert np.mean(ours == theirs.predict(x[held_out])) > 0.99
    assert abs(np.mean(ours == y[held_out]) - theirs.score(x[held_out], y[held_out])) < 0.01


def test_boosted_numbers_are_those_of_scikit_learn_to_six_places(folder: Path) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(240, 6))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + random.normal(scale=0.1, size=240)
    theirs = HistGradientBoostingRegressor(
        max_iter=40, max_depth=4, max_leaf_nodes=None, min_samples_leaf=10, early_stopping=False
    )
    with threadpool_limits(1):
        theirs.fit(x, y)
    with mlports.open(configuration("go")) as orch:
        options = {"task": "regression", "rounds": 40, "depth": 4, "min_leaf": 10}
        orch.call("boosting.fit", x.tolist(), y.tolist(), options)
        ours = np.array(orch.call("boosting.predict", x.tolist()))
    assert np.abs(ours - theirs.predict(x)).max() < 1e-6


def test_the_example_trains_on_a_file_and_votes_as_a_stage(folder: Path, tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:600], fmt="%d", delimiter=",")
    command = [str(folder / "build" / "boosting")]
    service = ServiceConfig(command=command, config={"data": str(tmp_path / "digits.csv")})
    record = {"x": x[:20].tolist(), "votes": {"python": [1]}, "name": "first"}
    with mlports.open({"boosting": service}) as orch:
        voted = orch.call("boosting.vote", record)
    assert voted["votes"].pop("go") == y[:20].tolist()
    assert voted == record


async def test_a_killed_worker_fails_its_call_alone_and_comes_back(folder: Path) -> None:
    async with Orchestrator(config=configuration("go")) as orch:
        call = orch.call("conformance.sleep", 30)
        await until(lambda: replica(orch)["in_flight"] == 1, "the call has begun")
        os.kill(replica(orch)["pid"], signal.SIGKILL)
        with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
            await call
        assert await orch.call("conformance.add", 1, 2) == 3


async def test_an_error_is_told_with_its_type(folder: Path) -> None:
    async with Orchestrator(config=configuration("go")) as orch:
        with pytest.raises(mlports.WorkerError, match="oops") as raised:
            await orch.call("conformance.fail", "oops")
    assert raised.value.remote_type == "*errors.errorString"


@pytest.mark.parametrize("transport", ["stdio", "fd34"])
async def test_printed_text_is_no_harm(folder: Path, transport: Literal["stdio", "fd34"]) -> None:
    service = ServiceConfig(command=[str(folder / "build" / "conformance")], transport=transport)
    async with Orchestrator(services={"conformance": service}) as orch:
        calls = [orch.call("conformance.print", "\0\0\0\1 a line"), orch.call("conformance.echo", 2**64 - 1)]
        assert await asyncio.gather(*calls) == [None, 2**64 - 1]


def test_one_socket_may_be_both_streams(folder: Path) -> None:
    """Its input is made non-blocking, and the output with it: an answer longer than the socket's buffer comes whole."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with (
        ours,
        subprocess.Popen([folder / "build" / "conformance"], stdin=theirs.fileno(), stdout=theirs.fileno()) as worker,
    ):
        theirs.close()
        ours.sendall(hello(1, 1) + frames([0, 1, "echo", [bytes(4 << 20)]]))
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as answers:
            told = [msgpack.unpackb(answers.read(int.from_bytes(answers.read(4), "big"))) for _ in range(2)]
    assert told[0][3]["language"] == "go"
    assert told[1] == [1, 1, None, bytes(4 << 20)]
    assert worker.returncode == 0


def test_an_end_of_input_inside_a_frame_is_told(folder: Path) -> None:
    ended = run(folder, hello(1, 1) + frames([0, 1, "add", [1, 2]])[:-1])
    assert ended.returncode == 1
    assert b"TruncatedFrame" in ended.stderr


def test_a_later_protocol_is_told(folder: Path) -> None:
    ended = run(folder, hello(2, 2))
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"UnsupportedVersion" in ended.stderr


def test_nobody_to_read_its_answers_ends_it_quietly(folder: Path) -> None:
    out, into = os.pipe()
    os.close(out)
    command = [folder / "build" / "conformance"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=into, stderr=subprocess.PIPE)
    os.close(into)
    assert worker.stdin is not None
    worker.stdin.write(hello(1, 1))
    worker.stdin.flush()
    try:
        assert worker.wait(timeout=10) == 1
        assert worker.stderr is not None
        assert worker.stderr.read() == b""
    finally:
        worker.kill()
        worker.communicate()


async def test_many_calls_in_flight_are_no_slower_than_to_python(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text(
        "from mlports_worker import Worker\n"
        "worker = Worker('echo')\n"
        "worker.method(name='echo')(lambda x: x)\n"
        "worker.run()\n"
    )
    services = {
        "go": ServiceConfig(command=[str(folder / "build" / "conformance")]),
        "python": ServiceConfig(command=[sys.executable, str(program)]),
    }
    took: dict[str, list[float]] = {name: [] for name in services}
    clock = asyncio.get_running_loop().time
    async with Orchestrator(services=services) as orch:
        for _ in range(5):
            for name, times in took.items():
                begun = clock()
                await orch.map(f"{name}.echo", [b"x" * 64] * 5000)
                times.append(clock() - begun)
    # Half as fast would be a fault; what is nearer is for a machine that does nothing else.
    assert min(took["go"]) < 2 * min(took["python"])


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("go", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", range(4)) == [1.0, 4.0, 7.0, 10.0]
        assert list(orch.stream("line.steps", 2)) == [1, 2]
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        with pytest.raises(mlports.InvalidArgument, match="float64 is due"):
            orch.call("line.predict", "two")
