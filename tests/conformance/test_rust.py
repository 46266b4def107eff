"""The SDK for Rust: the conformance kit, its own tests, its example against scikit-learn, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

import mlports
from mlports import Orchestrator, ServiceConfig
from mlports.testing.conformance import check
from tests.languages import BUILD_TIME, built, configuration, own_tests
from tests.workers import program, until

pytestmark = pytest.mark.timeout(BUILD_TIME)  # the first run builds the libraries, and the template's project


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("rust")


def frames(*messages: list[Any]) -> bytes:
    payloads: list[bytes] = [msgpack.packb(message) for message in messages]
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def hello(least: int, most: int) -> bytes:
    return frames([0, 0, "$/hello", [{"protocol": {"min": least, "max": most}}]])


def conformance(folder: Path) -> str:
    return str(folder / "build" / "release" / "conformance")


def in_flight(orch: Orchestrator) -> int:
    sent: int = orch.status()["services"]["conformance"]["replicas"][0]["in_flight"]
    return sent


def run(folder: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """The conformance worker, given this and then the end of its input."""
    return subprocess.run([conformance(folder)], input=data, capture_output=True, timeout=10, check=False)


def test_the_conformance_worker_is_at_level_full(folder: Path) -> None:
    report = check(["build/release/conformance"], cwd=folder, level="full")
    assert report.passed, str(report)


def test_its_own_tests_pass(folder: Path) -> None:
    own_tests(folder)


def test_its_clusters_are_ones_that_scikit_learn_cannot_better(folder: Path) -> None:
    x, _ = load_digits(return_X_y=True)
    with mlports.open(configuration("rust")) as orch:
        summary = orch.call("clusters.fit", x, None, 10, 1)
        labels = np.array(orch.call("clusters.predict", x))
        assert orch.call("clusters.predict", x[:50].tolist()) == labels[:50].tolist()
    means = np.stack([x[labels == cluster].mean(axis=0) for cluster in range(10)])
    from_there = KMeans(10, init=means, n_init=1, tol=0).fit(x)
    best_of_ten = KMeans(10, n_init=10, random_state=0).fit(x)
    # Where smartcore stopped, scikit-learn's iterations find nothing to change.
    assert np.array_equal(from_there.labels_, labels)
    assert summary["inertia"] == pytest.approx(from_there.inertia_, rel=1e-9)
    # And from a start of its own scikit-learn comes to nearly the same clusters.
    assert summary["inertia"] < 1.001 * best_of_ten.inertia_
    assert adjusted_rand_score(best_of_ten.labels_, labels) > 0.97


def test_the_example_trains_on_a_file_and_votes_as_a_stage(folder: Path, tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    np.savetxt(tmp_path / "digits.csv", np.column_stack([x, y])[:1200], fmt="%d", delimiter=",")
    command = [str(folder / "build" / "release" / "clusters")]
    service = ServiceConfig(command=command, config={"data": str(tmp_path / "digits.csv")})
    record = {"x": x[1200:].tolist(), "votes": {"python": [1]}, "name": "first"}
    with mlports.open({"clusters": service}) as orch:
        voted = orch.call("clusters.vote", record)
        with pytest.raises(mlports.InvalidArgument, match="3 numbers, and it was fitted on 64"):
            orch.call("clusters.predict", [[1, 2, 3]])
    assert np.mean(np.array(voted["votes"].pop("rust")) == y[1200:]) > 0.85
    assert voted == record


async def test_a_killed_worker_fails_its_call_alone_and_comes_back(folder: Path) -> None:
    async with Orchestrator(config=configuration("rust")) as orch:
        call = orch.call("conformance.sleep", 30)
        replica = orch.status()["services"]["conformance"]["replicas"][0]
        await until(lambda: in_flight(orch), "the call has been sent")
        os.kill(replica["pid"], signal.SIGKILL)
        with pytest.raises(mlports.WorkerCrashed, match="SIGKILL"):
            await call
        assert await orch.call("conformance.add", 1, 2) == 3


async def test_errors_and_panics_are_told_and_do_no_harm(folder: Path) -> None:
    async with Orchestrator(config=configuration("rust")) as orch:
        with pytest.raises(mlports.WorkerError, match="oops") as raised:
            await orch.call("conformance.fail", "oops")
        assert raised.value.remote_type == "std::io::error::Error"
        with pytest.raises(mlports.WorkerError, match="panic: in the air") as raised:
            await orch.call("conformance.panic", "in the air")
        assert "conformance.rs:" in str(raised.value.remote_traceback)
        with pytest.raises(mlports.InvalidArgument, match="argument 2: it is missing"):
            await orch.call("conformance.add", 1)
        with pytest.raises(mlports.InvalidArgument, match="2 arguments were given, and it takes 1"):
            await orch.call("conformance.echo", 1, 2)
        replica = orch.status()["services"]["conformance"]["replicas"][0]
        assert replica["restarts"] == 0


async def test_printed_text_is_no_harm(folder: Path) -> None:
    async with Orchestrator(config=configuration("rust")) as orch:
        calls = [orch.call("conformance.print", "\0\0\0\1 a line"), orch.call("conformance.echo", 2**64 - 1)]
        assert await asyncio.gather(*calls) == [None, 2**64 - 1]


async def test_frames_on_descriptors_3_and_4(folder: Path) -> None:
    service = ServiceConfig(command=[conformance(folder)], transport="fd34")
    async with Orchestrator(services={"conformance": service}) as orch:
        assert await orch.call("conformance.print", "free text") is None
        assert await orch.map("conformance.root", [4, 9]) == [2.0, 3.0]


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
    with subprocess.Popen([conformance(folder)], stdin=subprocess.PIPE, stdout=into, stderr=subprocess.PIPE) as worker:
        os.close(into)
        assert worker.stdin is not None
        assert worker.stderr is not None
        try:
            worker.stdin.write(hello(1, 1))
            worker.stdin.flush()
            assert worker.wait(timeout=10) == 1
            assert worker.stderr.read() == b""
        finally:
            worker.kill()


async def test_many_calls_in_flight_are_no_slower_than_to_python(folder: Path, tmp_path: Path) -> None:
    python = program(tmp_path, "@worker.method\ndef echo(x): return x", "echo")
    services = {
        "rust": ServiceConfig(command=[conformance(folder)]),
        "python": ServiceConfig(command=python),
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
    assert min(took["rust"]) < 2 * min(took["python"])


def project(folder: Path) -> Path:
    """A project as `mlports init` writes it, which stays where it is, and so is built once."""
    place = folder / "build" / "template"
    shutil.copytree(folder / "mlports", place / "mlports", dirs_exist_ok=True)
    for file in (file for file in (folder / "template").rglob("*") if file.is_file()):
        copy = place / str(file.relative_to(folder / "template")).removesuffix(".txt")
        copy.parent.mkdir(exist_ok=True)
        text = file.read_text().replace("@NAME@", "line")
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)
    # The libraries that were built for the SDK are built already.
    shutil.copy2(folder / "Cargo.lock", place)
    if not (place / "build").is_symlink():
        (place / "build").symlink_to("..")
    return place


def test_the_template_runs(folder: Path) -> None:
    place = project(folder)
    make = subprocess.run(["make"], cwd=place, capture_output=True, text=True, check=False)
    assert make.returncode == 0, make.stderr
    with mlports.open(place / "mlports.toml") as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", range(4)) == [1.0, 4.0, 7.0, 10.0]
        assert list(orch.stream("line.steps", 3)) == [0, 1, 2]
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        with pytest.raises(mlports.InvalidArgument, match='string "two", expected f64'):
            orch.call("line.predict", "two")
