"""Native code inline and as a process: the same results, and a crash that costs the whole program, or one call."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.extras import need

need("numpy", how="pip install 'mlports[models]'")

import numpy as np  # noqa: E402

from examples.native_code.__main__ import judged  # noqa: E402
from examples.native_code.building import NoCompiler, compiled, configured  # noqa: E402
from examples.native_code.measuring import SERVICES, SIZES, measure  # noqa: E402
from examples.native_code.risking import Fate, crashed  # noqa: E402
from mlports import Orchestrator, WorkerError  # noqa: E402


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compiled(tmp_path_factory.mktemp("native"))
    except NoCompiler as error:
        pytest.skip(str(error))


async def test_every_way_gives_the_same_result(library: Path) -> None:
    measured = await measure(library, rounds=1, calls=0.02)
    assert len(measured.micros) == 2 * len(SIZES) * len(SERVICES)
    assert measured.furthest < 1e-9


async def test_c_is_given_what_it_expects_and_nothing_else(library: Path) -> None:
    """Guards against numbers that are read as what they are not."""
    async with Orchestrator(config=configured(library, *SERVICES)) as orch:
        for service in SERVICES:
            for odd in range(7):
                expected = sum(k * k for k in range(odd))
                assert await orch.call(f"{service}.in_c", np.arange(float(odd))) == expected
            with pytest.raises(WorkerError, match="array of float64 is needed, not of float32"):
                await orch.call(f"{service}.in_c", np.ones(4, dtype=np.float32))


def test_a_crash_costs_the_program_or_one_call(library: Path) -> None:
    """That the other worker went with the program is what every test's check for leaks says."""
    inline, process = crashed(library, "inline"), crashed(library, "process")
    assert judged(inline, process) == []
    assert inline.status == -signal.SIGSEGV
    (crash,) = (each for each in process.said if each["moment"] == "crash")
    assert "SIGSEGV" in crash["error"]
    assert process.said[-1] == {"moment": "after", "sum": 8.0, "neighbour": 8.0, "restarts": [1, 0]}
    assert len(judged(process, inline)) == 2


def test_what_is_not_so_is_found() -> None:
    """Guards the example's own judgement."""
    said = [{"moment": moment} for moment in ("before", "crash", "after")]
    assert judged(Fate(-signal.SIGSEGV, said[:1]), Fate(0, said)) == []
    assert judged(Fate(-signal.SIGSEGV, said), Fate(0, said)) == ["a crash inline did not end the program"]
    assert judged(Fate(-signal.SIGSEGV, said[:1]), Fate(0, said[:2])) == [
        "a crash of a process cost more than one call"
    ]
