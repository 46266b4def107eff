"""The SDK for Java: the kit, its own tests, a forest beside scikit-learn's, what goes wrong, and a new project."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import mlports
from mlports import Config, ServiceConfig
from mlports.testing.conformance import check
from tests.integration.raw_worker import RawWorker
from tests.languages import built, configuration, new_project, own_tests, running
from tests.workers import PATIENCE, until_blocking


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("java")


def service() -> ServiceConfig:
    return configuration("java").service["conformance"]


def without_launch() -> list[str]:
    """The conformance worker started by `java` itself, whose frames are on its standard streams."""
    return ["java", *service().command[2:]]


def frame(message: list[Any]) -> bytes:
    payload: bytes = msgpack.packb(message)
    return len(payload).to_bytes(4, "big") + payload


def run(folder: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """The conformance worker, given this and then the end of its input."""
    command = service().command
    return subprocess.run(command, cwd=folder, input=data, capture_output=True, timeout=10, check=False)


def test_level_full(folder: Path) -> None:
    report = check(service().command, cwd=folder, level="full")
    assert report.passed, str(report)


def test_the_same_without_its_launch_script(folder: Path) -> None:
    report = check(without_launch(), cwd=folder, level="full", only=["print*", "descriptors-3-and-4", "interrupt"])
    assert not report.failures, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def test_its_forest_is_as_good_as_scikit_learns(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    held_out = np.arange(len(x)) % 4 == 0
    theirs = RandomForestClassifier(50, random_state=0).fit(x[~held_out], y[~held_out])
    with running("java", "forest") as orch:
        with pytest.raises(mlports.CallError, match="no forest yet"):
            orch.call("forest.predict", x[:1])
        fitted = orch.call("forest.fit", x[~held_out], y[~held_out].tolist(), 50)
        ours = orch.call("forest.predict", x[held_out])
        record = orch.call("forest.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
        with pytest.raises(mlports.CallError, match="a row of 2 numbers"):
            orch.call("forest.predict", [[1.0, 2.0]])
        orch.call("forest.fit", x[~held_out].tolist(), y[~held_out], 50)
        assert orch.call("forest.predict", x[held_out].tolist()) == ours  # seeded
    assert fitted == {"trees": 50, "rows": 1347, "features": 64, "classes": 10}
    assert abs(np.mean(np.array(ours) == y[held_out]) - theirs.score(x[held_out], y[held_out])) < 0.02
    assert record == {"x": x[held_out][:5].tolist(), "votes": {"c": [1], "java": ours[:5]}, "kept": "as it was"}


def test_its_forest_trains_on_a_file(folder: Path, tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:200], fmt="%d", delimiter=",")
    config = configuration("java")
    forest = config.service["forest"].model_copy(update={"config": {"data": str(tmp_path / "digits.csv")}})
    with mlports.open(Config(service={"forest": forest}, directory=config.directory)) as orch:
        predicted = orch.call("forest.predict", x[:200].tolist())
    assert np.mean(np.array(predicted) == y[:200]) > 0.95


def test_a_killed_worker_fails_its_call_alone_and_comes_back(folder: Path) -> None:
    with running("java", "conformance") as orch, ThreadPoolExecutor(1) as pool:
        call = pool.submit(orch.call, "conformance.sleep", 30)

        def replica() -> Any:
            return orch.status()["services"]["conformance"]["replicas"][0]

        until_blocking(lambda: replica()["in_flight"], "it is at work")
        os.kill(replica()["pid"], signal.SIGKILL)
        with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
            call.result(PATIENCE)
        assert orch.call("conformance.add", 1, 2) == 3


def test_thousands_of_calls_at_once(folder: Path) -> None:
    with running("java", "conformance") as orch:
        began = time.perf_counter()
        echoed = orch.map("conformance.echo", [bytes([i % 256]) * 64 for i in range(20_000)])
        assert echoed == [bytes([i % 256]) * 64 for i in range(20_000)]
        assert time.perf_counter() - began < 10  # 20000 a second and more where nobody else is at work


def test_values_that_only_some_languages_have(folder: Path) -> None:
    with running("java", "conformance") as orch:
        for value in [2**64 - 1, -(2**63), 1.0, b"\xff", {b"key": {1: None}}, "ä€😀" * 30_000, [[[]]]]:
            echoed = orch.call("conformance.echo", value)
            assert (echoed, type(echoed)) == (value, type(value))
        with pytest.raises(mlports.WorkerError, match=r"^.*IllegalStateException: oops$") as raised:
            orch.call("conformance.fail", "oops")
        assert raised.value.remote_type == "java.lang.IllegalStateException"
        assert "examples.Conformance" in (raised.value.remote_traceback or "")


def test_what_the_jvm_itself_prints_is_no_harm(folder: Path, tmp_path: Path) -> None:
    """Its answer to SIGQUIT goes to descriptor 1, past System.out, as what native code prints does."""
    with RawWorker(["env", "-C", str(folder), *service().command], stderr=tmp_path / "stderr") as worker:
        worker.hello()
        os.kill(worker.process.pid, signal.SIGQUIT)
        until_blocking(lambda: "Full thread dump" in worker.stderr(), "it dumped its threads")
        assert worker.call(1, "echo", "after") == [None, "after"]
        worker.end_input()
        assert worker.status() == 0


def test_an_end_of_input_inside_a_frame_is_told(folder: Path) -> None:
    hello = frame([0, 0, "$/hello", [{"protocol": {"min": 1, "max": 1}}]])
    ended = run(folder, hello + b"\0\0\0\5\1")
    assert ended.returncode == 1
    assert ended.stderr == b"TruncatedFrame: the stream ended after 1 of 5 bytes\n"


def test_a_later_protocol_is_told(folder: Path) -> None:
    ended = run(folder, frame([0, 0, "$/hello", [{"protocol": {"min": 2, "max": 2}}]]))
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr == b"UnsupportedVersion: the orchestrator speaks versions 2 to 2, this worker 1\n"


@pytest.mark.soak  # Maven takes its time
def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("java", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        with pytest.raises(mlports.CallError, match="argument 1 is a number, not x") as failed:
            orch.call("line.predict", "x")
        assert failed.value.code == "invalid_argument"
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1.0, 2.5]
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
