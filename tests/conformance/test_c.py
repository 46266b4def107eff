"""The SDK for C: the conformance kit, its own tests, its example against numpy and scikit-learn, and its faults."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

import mlports
from mlports import Orchestrator, ServiceConfig
from tests.compiled import CompiledWorkers
from tests.languages import built, configuration


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("c")


class TestC(CompiledWorkers):
    """What every compiled SDK must do, and what is C's own."""

    language = "c"
    example = "centroids"

    @pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # pixels that are always 0
    def test_predictions_are_those_of_scikit_learn(self, folder: Path) -> None:
        x, y = load_digits(return_X_y=True)
        train, rest = slice(None, 1200), slice(1200, None)
        theirs = NearestCentroid().fit(x[train], y[train])
        scaler = StandardScaler().fit(x[train])
        with mlports.open(configuration("c")) as orch:
            fitted = orch.call("centroids.fit", x[train], y[train].tolist())
            ours = orch.call("centroids.predict", x[rest].tolist())
            scaled = np.array(orch.call("centroids.scale", x[rest]))
            cosines = np.array(orch.call("centroids.similarity", x[rest]))
        assert fitted["classes"] == list(range(10))
        assert ours == theirs.predict(x[rest]).tolist()
        assert np.abs(scaled - scaler.transform(x[rest])).max() < 1e-12
        assert np.abs(cosines - cosine_similarity(x[rest], theirs.centroids_)).max() < 1e-12

    @pytest.mark.parametrize("size", [1, 3, 4, 7, 16, 31, 64, 1000])
    def test_every_kernel_gives_what_numpy_gives(self, folder: Path, size: int) -> None:
        random = np.random.default_rng(size)
        a, b = random.normal(size=(2, size))
        text = " ".join([str(size), *(repr(float(x)) for x in (*a, *b))])
        run = subprocess.run(
            [folder / "build" / "kernels"], input=text, capture_output=True, text=True, timeout=10, check=True
        )
        lines = [line.split() for line in run.stdout.splitlines()]
        assert lines[-1][0] == "portable"
        expected = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), np.sum((a - b) ** 2), *((b - a) / (np.abs(b) + 1))]
        for name, *numbers in lines:
            ours = np.array(numbers, float)
            assert np.all(np.abs(ours - expected) <= 1e-12 * np.maximum(1, np.abs(expected))), name

    def test_rows_that_do_not_fit_are_told(self, folder: Path) -> None:
        with mlports.open(configuration("c")) as orch:
            with pytest.raises(mlports.CallError, match="not fitted yet"):
                orch.call("centroids.predict", [[1, 2]])
            orch.call("centroids.fit", [[0, 0], [1, 1]], [3, 5])
            assert orch.call("centroids.predict", [[0.9, 0.8], [0, 0.2]]) == [5, 3]
            with pytest.raises(mlports.InvalidArgument, match="row 1 has 1 numbers, and 2 are due"):
                orch.call("centroids.predict", [[1, 2], [1]])
            with pytest.raises(mlports.InvalidArgument, match="label 1 is not an integer"):
                orch.call("centroids.fit", [[0, 0], [1, 1]], [3, "x"])

    @pytest.mark.parametrize(
        ("method", "code", "story"),
        [
            ("two_values", "internal", "more than one value"),
            ("half_a_value", "internal", "longer than the rest"),
            ("not_text", "internal", "not UTF-8"),
            ("silent", "unknown", "without saying why"),
            ("yields", "internal", "MLPORTS_STREAM"),
            ("too_few", "internal", "0 results for 1 items"),
            ("too_many", "internal", "2 results for 1 items"),
            ("input", "failed_precondition", "no streamed argument"),
        ],
    )
    def test_a_handler_at_fault_fails_its_own_call(self, folder: Path, method: str, code: str, story: str) -> None:
        service = ServiceConfig(command=[str(folder / "build" / "misuse")])
        with mlports.open({"misuse": service}) as orch:
            with pytest.raises(mlports.CallError, match=story) as raised:
                orch.call(f"misuse.{method}")
            assert raised.value.code == code
            assert orch.call("misuse.nothing") is None

    @pytest.mark.soak
    async def test_valgrind_finds_nothing(self, folder: Path, tmp_path: Path) -> None:
        if shutil.which("valgrind") is None:
            pytest.skip("valgrind not installed here")
        log = tmp_path / "valgrind.log"
        command = ["valgrind", "--leak-check=full", "--errors-for-leak-kinds=definite", f"--log-file={log}"]
        service = ServiceConfig(command=[*command, str(folder / "build" / "conformance")], start_timeout=60)
        other = ServiceConfig(command=[str(folder / "build" / "conformance")])
        array = np.arange(1000.0).reshape(10, 100)
        async with Orchestrator(services={"conformance": service, "other": other}) as orch:
            for _ in range(20):
                assert await orch.map("conformance.echo", list(range(300))) == list(range(300))
                assert np.array_equal(await orch.call("conformance.echo", array), array)
                assert [item async for item in orch.stream("conformance.count", 50)] == list(range(50))
                assert await orch.call("conformance.relay", "other.add", [1, 2]) == 3
                with pytest.raises(mlports.CallError):
                    await orch.call("conformance.root", -1)
                with pytest.raises(mlports.DeadlineExceeded):
                    await orch.call("conformance.sleep", 60, timeout=0.05)
        told = log.read_text()
        assert "ERROR SUMMARY: 0 errors" in told, told

    def test_a_crash_is_told_by_its_signal(self, folder: Path) -> None:
        service = ServiceConfig(command=[str(folder / "build" / "misuse")])
        with mlports.open({"misuse": service}) as orch:
            with pytest.raises(mlports.WorkerCrashed, match="SIGABRT"):
                orch.call("misuse.crash")
            assert orch.call("misuse.nothing") is None
