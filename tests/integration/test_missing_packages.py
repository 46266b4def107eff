"""Ready-made workers where the packages that they need are not installed: each says which extra brings them."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from mlports import Orchestrator, ServiceConfig, StartFailed

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [str(ROOT / folder) for folder in ("protocol", "workers/python")]


@pytest.mark.parametrize("worker", ["text", "onnx", "torch", "mlflow"])
async def test_a_worker_says_which_extra_it_lacks(worker: str, tmp_path: Path) -> None:
    (tmp_path / "msgpack").symlink_to(Path(sysconfig.get_path("platlib"), "msgpack"))
    service = ServiceConfig(
        command=[sys.executable, "-S", "-m", f"mlports_models.{worker}"],
        env={"PYTHONPATH": os.pathsep.join([*FOLDERS, str(tmp_path)])},
        start_timeout="60s",
    )
    with pytest.raises(StartFailed) as failed:
        async with Orchestrator({"model": service}):
            pass
    assert f"the {worker} worker cannot start: numpy is not installed" in str(failed.value)
    assert f"pip install 'mlports[{worker}]'" in str(failed.value)
