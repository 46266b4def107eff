"""What the tests of the SDKs for Erlang and for Elixir have in common: one virtual machine, one behaviour."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import mlports
from mlports import Config, Orchestrator, ServiceConfig
from mlports.testing.conformance import check
from tests.languages import configuration, new_project, own_tests, running

_PYTHON_ECHO = """\
from mlports_worker import Worker
worker = Worker("echo")
worker.method(name="echo")(lambda x: x)
worker.run()
"""

Array = NDArray[Any]
Weights = list[list[list[float]]]
"""For each layer behind the first, for each neuron: its bias, then a weight for each input."""


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def learnt(weights: Weights, rate: float, rows: Array, targets: Array) -> tuple[Array, Weights]:
    """Gradient descent on half the squared error, sample by sample: the outputs before each, the weights behind all."""
    layers = [np.array(layer) for layer in weights]
    outputs = []
    for row, target in zip(rows, targets, strict=True):
        values = [row]
        for layer in layers:
            values.append(1 / (1 + np.exp(-(layer[:, 0] + layer[:, 1:] @ values[-1]))))
        outputs.append(values[-1])
        error = values[-1] - target
        for index in reversed(range(len(layers))):
            delta = error * values[index + 1] * (1 - values[index + 1])
            error = delta @ layers[index][:, 1:]
            layers[index] -= rate * np.outer(delta, np.concatenate([[1.0], values[index]]))
    return np.array(outputs), [layer.tolist() for layer in layers]


class BeamWorkers:
    """Tests for a language whose fixture `folder` builds it."""

    language: str
    net: str
    """The service whose processes are a neural net."""
    raised: str
    """What the message of an ordinary exception begins with."""

    def command(self) -> list[str]:
        return configuration(self.language).service["conformance"].command

    def test_level_full(self, folder: Path) -> None:
        report = check(self.command(), cwd=folder, level="full")
        assert report.passed, str(report)

    def test_its_own_tests(self, folder: Path) -> None:
        own_tests(folder)

    def test_the_net_learns_as_numpy_computes(self, folder: Path) -> None:
        random = np.random.default_rng(7)
        weights: Weights = [
            random.normal(size=(behind, before + 1)).tolist() for before, behind in pairwise([5, 4, 3, 2])
        ]
        rows, targets = random.normal(size=(20, 5)), random.random((20, 2))
        with running(self.language, self.net) as orch:
            ours = orch.call(f"{self.net}.learn", weights, 0.7, rows.tolist(), targets.tolist())
        outputs, after = learnt(weights, 0.7, rows, targets)
        assert np.abs(np.array(ours["outputs"]) - outputs).max() < 1e-9
        for layer, theirs in zip(ours["weights"], after, strict=True):
            assert np.abs(np.array(layer) - np.array(theirs)).max() < 1e-9

    def test_the_net_learns_digits_and_xor(self, folder: Path) -> None:
        x, y = load_digits(return_X_y=True)
        xor, labels = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        with running(self.language, self.net) as orch:
            with pytest.raises(mlports.CallError, match="nothing was learnt yet"):
                orch.call(f"{self.net}.predict", x[:1])
            fitted = orch.call(f"{self.net}.fit", x[:700], y[:700].tolist())
            guessed = orch.call(f"{self.net}.predict", x[1400:])
            record = {"x": x[1400:1403].tolist(), "votes": {"c": [1]}, "kept": "as it was"}
            voted = orch.call(f"{self.net}.vote", record)
            orch.call(f"{self.net}.fit", xor, labels, {"hidden": 3, "epochs": 1500, "rate": 2.0})
            assert orch.call(f"{self.net}.predict", xor) == labels
        assert (fitted["classes"], fitted["rows"]) == (list(range(10)), 700)
        assert np.mean(np.array(guessed) == y[1400:]) > 0.8
        assert voted == {**record, "votes": {"c": [1], self.language: guessed[:3]}}

    def test_the_net_trains_on_a_file(self, folder: Path, tmp_path: Path) -> None:
        x, y = load_digits(return_X_y=True)
        np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:200], fmt="%d", delimiter=",")
        config = configuration(self.language)
        net = config.service[self.net].model_copy(update={"config": {"data": str(tmp_path / "digits.csv")}})
        with mlports.open(Config(service={self.net: net}, directory=config.directory)) as orch:
            guessed = orch.call(f"{self.net}.predict", x[:200])
            orch.call(f"{self.net}.fit", x[:200], y[:200])
            assert orch.call(f"{self.net}.predict", x[:200]) == guessed
        assert len(set(guessed)) > 2

    async def test_a_killed_worker_fails_its_call_alone_and_comes_back(self, folder: Path) -> None:
        config = configuration(self.language)
        alone = Config(service={"conformance": config.service["conformance"]}, directory=config.directory)
        async with Orchestrator(config=alone) as orch:
            replica = orch.status()["services"]["conformance"]["replicas"][0]
            with pytest.raises(mlports.WorkerError, match=self.raised):
                await orch.call("conformance.fail", "as asked")
            roots = await asyncio.gather(
                *(orch.call("conformance.root", x) for x in (4, -1, "x")), return_exceptions=True
            )
            assert roots[0] == 2.0
            assert {type(failure) for failure in roots[1:]} == {mlports.InvalidArgument}
            call = orch.call("conformance.sleep", 30)
            os.kill(replica["pid"], signal.SIGKILL)
            with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
                await call
            assert await orch.call("conformance.add", 2**63, 1) == 2**63 + 1

    async def test_many_calls_in_flight_are_not_much_slower_than_to_python(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "echo.py").write_text(_PYTHON_ECHO)
        theirs = ServiceConfig(command=[sys.executable, str(tmp_path / "echo.py")])
        ours = configuration(self.language).service["conformance"].model_copy(update={"cwd": str(folder)})
        took: dict[str, list[float]] = {"theirs": [], "ours": []}
        clock = asyncio.get_running_loop().time
        async with Orchestrator(services={"theirs": theirs, "ours": ours}) as orch:
            for _ in range(5):
                for name, times in took.items():
                    begun = clock()
                    await orch.map(f"{name}.echo", [b"x" * 64] * 4000)
                    times.append(clock() - begun)
        # The schedulers of the virtual machine want processors beside the orchestrator: so three times.
        assert min(took["ours"]) < 3 * min(took["theirs"]), took

    def test_faults_are_told(self, folder: Path) -> None:
        later = b"\x94\x00\x00\xa7$/hello\x91\x81\xa8protocol\x82\xa3min\x02\xa3max\x02"
        for data, story in [
            (b"\0\0\0\5\1", b"TruncatedFrame: the input ended 5 bytes into a frame\n"),
            (frame(later), b"UnsupportedVersion: the orchestrator speaks 2 to 2, this worker 1\n"),
            (b"hello\n", b"StdoutPolluted: printed where a frame was due: "),
        ]:
            ended = subprocess.run(self.command(), cwd=folder, input=data, capture_output=True, timeout=20, check=False)
            assert (ended.returncode, ended.stdout) == (1, b"")
            assert ended.stderr.startswith(story)

    def test_a_new_project_runs(self, folder: Path, tmp_path: Path) -> None:
        with new_project(self.language, tmp_path) as orch:
            assert orch.call("line.predict", 2) == 7
            assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1, 2.5]
            with pytest.raises(mlports.InvalidArgument, match="a number is needed, not"):
                orch.call("line.predict", "x")
            assert orch.call("line.describe") == {"kind": "line", "slope": 3, "intercept": 1}
            assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
