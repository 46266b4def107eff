"""A shuttle's sensors, watched: anomalies are found without labels, at once, and no reading is given without demand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mlports import Orchestrator
from tests.extras import need

need("numpy", "river")

from examples.equipment_monitor.__main__ import BEFORE, CONFIG, watch  # noqa: E402
from examples.equipment_monitor.judging import precision_and_recall, roc_auc  # noqa: E402
from examples.equipment_monitor.monitoring import AT_MOST, DEMAND, Sensors  # noqa: E402
from examples.equipment_monitor.shuttle import shuttle  # noqa: E402
from mlports_models.detector import Detector  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_file_is_told_apart_whatever_is_drawn(seed: int) -> None:
    readings, odd = shuttle()
    assert (readings.shape, odd.sum()) == ((49_097, 9), 3_511)
    found = Detector({"rate": 0.08, "seed": seed}).judge(readings)
    assert roc_auc(found["score"][BEFORE:], odd[BEFORE:]) >= 0.98
    precision, recall = precision_and_recall(found["alert"][BEFORE:], odd[BEFORE:])
    assert precision >= 0.8
    assert recall >= 0.9


async def test_alerts_come_at_once_and_equal_those_of_the_model_itself() -> None:
    readings, odd = shuttle()
    fast, slow, _ = await watch(readings[:4000], readings[4000:4200])
    found = Detector({"rate": 0.08}).judge(readings[:4200])
    np.testing.assert_array_equal(fast.scores, found["score"][:4000])
    np.testing.assert_array_equal(np.concatenate([fast.alerts, slow.alerts]), found["alert"])
    assert roc_auc(fast.scores[BEFORE:], odd[BEFORE:4000]) >= 0.95
    assert 0 < fast.most_in_flight <= DEMAND
    assert slow.alerts.sum() > 5
    assert np.quantile(slow.delays[slow.alerts], 0.9) < 0.05


async def test_a_consumer_that_rests_lets_the_sensors_rest() -> None:
    """Guards the demand: what a slow consumer does not ask for is not read, however fast the sensors are."""
    readings, _ = shuttle()
    sensors, received, ahead = Sensors(readings), 0, []
    async with Orchestrator.from_config(CONFIG) as orch:
        async for found in orch.stream("monitor.watch", input=sensors):
            assert found["number"] == received
            received += 1
            if received % 100 == 0:
                await asyncio.sleep(0.1)  # it is slow: time enough for thousands of readings
                ahead.append(sensors.given - received)
            if received == 1000:
                break
    assert max(ahead) <= AT_MOST
    assert min(ahead) > 0


def test_the_curve_s_area_is_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the reference is scikit-learn's")
    random = np.random.default_rng(0)
    scores, odd = random.integers(0, 20, 500).astype(float), random.random(500) < 0.2
    assert roc_auc(scores, odd) == pytest.approx(metrics.roc_auc_score(odd, scores), abs=1e-12)
    assert np.isnan(roc_auc(scores, odd & False))


@pytest.mark.soak
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib: pip install 'mlports[examples]'")
def test_the_program_draws_what_it_found(tmp_path: Path) -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    command = [sys.executable, "-m", "examples.equipment_monitor", "--readings", "2500", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "2,500 readings" in done.stdout
    assert (tmp_path / "equipment_monitor.png").read_bytes().startswith(b"\x89PNG")
