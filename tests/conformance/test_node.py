"""The SDK for JavaScript: the kit, its own tests, a model beside scikit-learn's, what goes wrong, and a new project."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

import mlports
from mlports import Config, Orchestrator
from mlports.testing.conformance import check
from tests.integration.raw_worker import RawWorker
from tests.languages import built, configuration, new_project, own_tests, running
from tests.workers import until_blocking


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("node")


def frame(message: list[Any]) -> bytes:
    payload: bytes = msgpack.packb(message)
    return len(payload).to_bytes(4, "big") + payload


def hello(version: int) -> bytes:
    return frame([0, 0, "$/hello", [{"protocol": {"min": version, "max": version}}]])


def run(folder: Path, data: bytes, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The conformance worker, given this and then the end of its input."""
    command = configuration("node").service["conformance"].command
    env = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, input=data, capture_output=True, timeout=10, check=False, env=env)


def test_level_full(folder: Path) -> None:
    report = check(configuration("node").service["conformance"].command, cwd=folder, level="full")
    assert report.passed, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def test_its_classifier_is_scikit_learns(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    train, held_out = slice(0, 1200), slice(1200, None)
    theirs = RidgeClassifier(alpha=2.5).fit(x[train], y[train])
    with running("node", "digits") as orch:
        with pytest.raises(mlports.CallError, match="nothing is trained yet"):
            orch.call("digits.predict", x[:1])
        fitted = orch.call("digits.fit", x[train], y[train], {"alpha": 2.5})
        ours = orch.call("digits.predict", x[held_out].tolist())
        record = orch.call("digits.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
        with pytest.raises(mlports.InvalidArgument, match="rows of 64 numbers, not of 2"):
            orch.call("digits.predict", [[1.0, 2.0]])
    assert fitted["classes"] == list(range(10))
    assert np.abs(np.array(fitted["coefficients"]) - theirs.coef_).max() < 1e-9
    assert np.abs(np.array(fitted["intercepts"]) - theirs.intercept_).max() < 1e-9
    assert ours == theirs.predict(x[held_out]).tolist()
    assert record == {"x": x[held_out][:5].tolist(), "votes": {"c": [1], "node": ours[:5]}, "kept": "as it was"}


def test_its_classifier_trains_on_a_file(folder: Path, tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:400], fmt="%d", delimiter=",")
    config = configuration("node")
    digits = config.service["digits"].model_copy(update={"config": {"data": str(tmp_path / "digits.csv")}})
    with mlports.open(Config(service={"digits": digits}, directory=config.directory)) as orch:
        assert orch.call("digits.predict", x[:400]) == RidgeClassifier().fit(x[:400], y[:400]).predict(x[:400]).tolist()


async def test_a_killed_worker_fails_its_call_alone_and_comes_back(folder: Path) -> None:
    async with Orchestrator(config=configuration("node")) as orch:
        replica = orch.status()["services"]["conformance"]["replicas"][0]
        call = orch.call("conformance.sleep", 30)
        calls = [orch.call("conformance.root", x) for x in (4, -1, "x")]
        roots = await asyncio.gather(*calls, return_exceptions=True)
        assert roots[0] == 2.0
        assert {type(failure) for failure in roots[1:]} == {mlports.InvalidArgument}
        os.kill(replica["pid"], signal.SIGKILL)
        with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
            await call
        assert await orch.call("conformance.add", 2**53 - 2, 1) == 2**53 - 1


def test_what_native_code_prints_is_no_harm(folder: Path, tmp_path: Path) -> None:
    """Past process.stdout: to descriptor 1 itself, and by a child that inherits it."""
    with RawWorker(["node", str(folder / "tests/workers/serving.js")], stderr=tmp_path / "stderr") as worker:
        worker.hello()
        assert worker.call(1, "print") == [None, None]
        assert worker.call(2, "printBelow") == [None, None]
        lines = ["by console.log", "by process.stdout", "by descriptor 1", "by a child"]
        until_blocking(lambda: all(line in worker.stderr() for line in lines), "all was printed")
        worker.end_input()
        assert worker.status() == 0


def test_an_end_of_input_inside_a_frame_is_told(folder: Path) -> None:
    ended = run(folder, hello(1) + b"\0\0\0\5\1")
    assert ended.returncode == 1
    assert ended.stderr == b"TruncatedFrame: the input ended within a frame of 5 bytes, after 5 bytes\n"


def test_a_later_protocol_is_told(folder: Path) -> None:
    ended = run(folder, hello(2))
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr == b"UnsupportedVersion: the orchestrator speaks versions 2 to 2, this worker version 1\n"


def test_fd34_without_its_descriptors_is_told(folder: Path) -> None:
    ended = run(folder, hello(1), MLPORTS_TRANSPORT="fd34", MLPORTS_WORKER="1")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"descriptors 3 and 4 are not open" in ended.stderr


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("node", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1, 2.5]
        with pytest.raises(mlports.InvalidArgument, match="a number is needed, not"):
            orch.call("line.predict", "x")
        assert orch.call("line.describe") == {"kind": "line", "slope": 3, "intercept": 1}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
    assert not (tmp_path / "project" / "node_modules").exists()
