"""What the SDKs for C and C++ have in common, as tests: a subclass names the language."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgpack
import numpy as np
import pytest
from sklearn.datasets import load_digits

import mlports
from mlports import Orchestrator, ServiceConfig
from mlports.testing.conformance import check
from tests.languages import configuration, own_tests
from tests.vector_program import check_vectors
from tests.workers import until

_PYTHON_ECHO = """\
from mlports_worker import Worker
worker = Worker("echo")
worker.method(name="echo")(lambda x: x)
worker.run()
"""


def frames(*messages: list[Any]) -> bytes:
    """The messages, each in its frame."""
    payloads: list[bytes] = [msgpack.packb(message) for message in messages]
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def hello(least: int, most: int, *features: str) -> bytes:
    """An orchestrator's first frame."""
    return frames([0, 0, "$/hello", [{"protocol": {"min": least, "max": most}, "features": features}]])


def replica(orch: Orchestrator) -> dict[str, Any]:
    """The state of the conformance worker."""
    first: dict[str, Any] = orch.status()["services"]["conformance"]["replicas"][0]
    return first


class CompiledWorkers:
    """The tests; their module has a fixture `folder`, where the SDK was built. `example` is the service that learns."""

    language: ClassVar[str]
    example: ClassVar[str]

    def service(self, folder: Path, **settings: Any) -> ServiceConfig:
        return ServiceConfig(command=[str(folder / "build" / "conformance")], **settings)

    def run(self, folder: Path, data: bytes, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """The conformance worker, given this and then the end of its input."""
        return subprocess.run(
            [folder / "build" / "conformance"],
            input=data,
            capture_output=True,
            timeout=10,
            check=False,
            env={**os.environ, **variables},
        )

    def test_the_conformance_worker_is_at_level_full(self, folder: Path) -> None:
        report = check(["build/conformance"], cwd=folder, level="full")
        assert report.passed, str(report)

    @pytest.mark.soak
    def test_the_sanitizers_find_nothing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SANITIZE", "1")
        own_tests(folder)
        report = check(["build/sanitized/conformance"], cwd=folder, level="full", timeout=30, start_timeout=60)
        assert report.passed, str(report)
        check_vectors(folder / "build" / "sanitized" / "vectors")

    def test_its_own_tests_pass(self, folder: Path) -> None:
        own_tests(folder)

    def test_the_vectors_are_read_and_written_as_they_stand(self, folder: Path) -> None:
        check_vectors(folder / "build" / "vectors")

    async def test_a_killed_worker_fails_its_call_alone_and_comes_back(self, folder: Path) -> None:
        async with Orchestrator(config=configuration(self.language)) as orch:
            call = orch.call("conformance.sleep", 30)
            await until(lambda: replica(orch)["in_flight"] == 1, "the call has begun")
            os.kill(replica(orch)["pid"], signal.SIGKILL)
            with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
                await call
            assert await orch.call("conformance.add", 1, 2) == 3

    @pytest.mark.parametrize("transport", ["stdio", "fd34"])
    async def test_printed_text_is_no_harm(self, folder: Path, transport: Literal["stdio", "fd34"]) -> None:
        async with Orchestrator(services={"conformance": self.service(folder, transport=transport)}) as orch:
            calls = [orch.call("conformance.print", "a line"), orch.call("conformance.echo", 2**64 - 1)]
            assert await asyncio.gather(*calls) == [None, 2**64 - 1]

    def test_fd34_without_its_descriptors_is_told(self, folder: Path) -> None:
        ended = self.run(folder, hello(1, 1), MLPORTS_TRANSPORT="fd34")
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert b"descriptors 3 and 4 are not open" in ended.stderr

    def test_an_end_of_input_inside_a_frame_is_told(self, folder: Path) -> None:
        ended = self.run(folder, hello(1, 1)[:-1])
        assert (ended.returncode, ended.stdout) == (1, b"")
        assert b"TruncatedFrame" in ended.stderr

    def test_a_later_protocol_is_told(self, folder: Path) -> None:
        ended = self.run(folder, hello(2, 2))
        assert (ended.returncode, ended.stdout) == (1, b"")
        assert b"UnsupportedVersion" in ended.stderr

    def test_nobody_to_read_its_answers_ends_it_quietly(self, folder: Path) -> None:
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

    def test_a_length_is_a_claim(self, folder: Path) -> None:
        """2 GiB of objects are claimed by 5 bytes, in a process that may have 300 MB."""
        command = f"ulimit -v 300000; exec {folder / 'build' / 'conformance'}"
        claim = b"\x94\x00\x01\xa4echo\xdd\x06\x00\x00\x00"
        data = hello(1, 1)
        with subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(data)
            worker.stdin.flush()
            worker.stdout.read(4)
            _, said = worker.communicate(len(claim).to_bytes(4, "big") + claim, timeout=10)
        assert worker.returncode == 1
        assert b"MalformedValue" in said

    async def test_every_call_of_a_batch_fails_alone(self, folder: Path) -> None:
        async with Orchestrator(services={"conformance": self.service(folder)}) as orch:
            roots = await asyncio.gather(
                *[orch.call("conformance.root", x) for x in (4, -1, "x", 9)], return_exceptions=True
            )
            sums = await asyncio.gather(
                *[orch.call("conformance.add", 1, x) for x in (1, "x", 0.5)], return_exceptions=True
            )
        assert [roots[0], roots[3], sums[0], sums[2]] == [2.0, 3.0, 2, 1.5]
        assert {type(failure) for failure in (roots[1], roots[2], sums[1])} == {mlports.InvalidArgument}

    async def test_many_calls_in_flight_are_no_slower_than_to_python(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "echo.py").write_text(_PYTHON_ECHO)
        services = {
            "own": self.service(folder),
            "python": ServiceConfig(command=[sys.executable, str(tmp_path / "echo.py")]),
        }
        took: dict[str, list[float]] = {name: [] for name in services}
        clock = asyncio.get_running_loop().time
        async with Orchestrator(services=services) as orch:
            for _ in range(5):
                for name, times in took.items():
                    begun = clock()
                    await orch.map(f"{name}.echo", [b"x" * 64] * 4000)
                    times.append(clock() - begun)
        # Half as fast would be a fault; what is nearer is for a machine that does nothing else.
        assert min(took["own"]) < 2 * min(took["python"])

    def test_the_example_trains_on_a_file_and_votes_as_a_stage(self, folder: Path, tmp_path: Path) -> None:
        x, y = load_digits(return_X_y=True)
        np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:600], fmt="%d", delimiter=",")
        command = [str(folder / "build" / self.example)]
        service = ServiceConfig(command=command, config={"data": str(tmp_path / "digits.csv")})
        record = {"x": x[:40].tolist(), "votes": {"python": [1]}, "name": "first"}
        with mlports.open({"example": service}) as orch:
            voted = orch.call("example.vote", record)
            fitted = orch.call("example.predict", x[:40])
        votes = voted["votes"].pop(self.language)
        assert voted == record
        assert votes == fitted
        assert np.mean(np.array(votes) == y[:40]) > 0.9

    def test_a_training_file_that_is_not_there_ends_the_setup(self, folder: Path, tmp_path: Path) -> None:
        command = [str(folder / "build" / self.example)]
        service = ServiceConfig(command=command, config={"data": str(tmp_path / "none.csv")})
        with pytest.raises(mlports.StartFailed, match=r"none\.csv"), mlports.open({"example": service}):
            pass

    def test_the_template_runs(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder / "template", tmp_path, dirs_exist_ok=True)
        shutil.copytree(folder / "mlports", tmp_path / "mlports")
        for file in [path for path in tmp_path.iterdir() if path.is_file()]:
            file.write_text(file.read_text().replace("@NAME@", "line"))
        fast = {**os.environ, "CFLAGS": "-O0", "CXXFLAGS": "-O0"}
        subprocess.run(["make"], cwd=tmp_path, check=True, capture_output=True, env=fast)
        with mlports.open(tmp_path / "mlports.toml") as orch:
            assert orch.call("line.predict", 2) == 7.0
            assert orch.map("line.predict", range(4)) == [1.0, 4.0, 7.0, 10.0]
            assert list(orch.stream("line.steps", 2)) == [1, 2]
            assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
            with pytest.raises(mlports.InvalidArgument, match="argument 1"):
                orch.call("line.predict", "two")
