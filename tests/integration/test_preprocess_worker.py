"""The preprocess worker through an orchestrator: fitted to a stream, frozen, saved, and the same where it is loaded."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mlports import InvalidArgument, Orchestrator, ServiceConfig, WorkerError
from mlports_models.preparing import Preparing
from mlports_worker import Failure

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))}
COMMAND = ["python", "-m", "mlports_models.preprocess"]
COLUMNS = {
    "age": {"kind": "number", "scale": True},
    "genre": {"kind": "category"},
    "title": {"kind": "text", "width": 8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where preparations are saved."""
    return tmp_path_factory.mktemp("preparations")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(folder: Path) -> AsyncIterator[Orchestrator]:
    """One preprocess worker."""
    config = {"columns": COLUMNS, "folder": str(folder)}
    service = ServiceConfig(command=COMMAND, start_timeout="120s", env=ENV, config=config)
    async with Orchestrator({"prepare": service}) as orch:
        yield orch


def tables(count: int) -> Iterator[dict[str, Any]]:
    """Small tables, one after the other."""
    for number in range(count):
        yield {"age": [float(number), None], "genre": ["drama", f"genre {number % 3}"], "title": ["Up", None]}


async def test_a_stream_is_learned_frozen_saved_and_loaded(orch: Orchestrator, folder: Path) -> None:
    """Guards the whole way: what is refused teaches nothing, and the saved file gives the same features."""
    broken = [*tables(3), {"age": ["old"], "genre": ["drama"], "title": ["x"]}]
    with pytest.raises(
        InvalidArgument, match=r"table 3 of the stream, column 'age' is of numbers, and row 0 has 'old'"
    ):
        await orch.call("prepare.fit", input=broken)
    with pytest.raises(InvalidArgument, match=r"unknown: 'agee' \(did you mean 'age'\?\)"):
        await orch.call("prepare.partial_fit", {"agee": [1.0], "genre": ["drama"], "title": ["x"]})
    assert (await orch.call("prepare.info"))["rows"] == 0
    with pytest.raises(WorkerError, match="still learns"):
        await orch.call("prepare.transform", {"age": 1.0, "genre": "drama", "title": "Up"})

    info = await orch.call("prepare.fit", input=tables(200))
    assert (info["frozen"], info["rows"]) == (True, 400)
    assert info["features"][:5] == ["age", "genre=drama", "genre=genre 0", "genre=genre 1", "genre=genre 2"]
    rows = [{"age": 5.0, "genre": "drama", "title": "Up"}, {"age": None, "genre": "new", "title": None}]
    table = await orch.call("prepare.transform", rows)
    assert table.shape == (2, 1 + 4 + 8)
    assert table[1].tolist() == [0.0] * 13
    assert np.array_equal(await orch.map("prepare.transform", rows), table)
    with pytest.raises(WorkerError, match="is frozen"):
        await orch.call("prepare.partial_fit", rows)

    saved = await orch.call("prepare.save", "films.json")
    assert saved == {"path": "films.json", "digest": info["digest"]}
    again = Preparing({"preparation": "films.json", "folder": str(folder), "digest": info["digest"]})
    assert np.array_equal(again.transform([rows])[0], table)
    with pytest.raises(WorkerError, match="is not inside"):
        await orch.call("prepare.save", "../films.json")


async def test_another_preparation_is_not_served(folder: Path) -> None:
    """Guards a model from features that it was not trained with."""
    made = Preparing({"columns": COLUMNS, "folder": str(folder)})
    made.fit(tables(2))
    made.save("other.json")
    with pytest.raises(Failure, match="what the model was trained with is not what it would be served with"):
        Preparing({"preparation": "other.json", "folder": str(folder), "digest": "0" * 64})
    text = (folder / "other.json").read_text("utf-8")
    (folder / "other.json").write_text(text.replace('"mean": 0.5', '"mean": 0.25'))
    with pytest.raises(Failure, match="digest differs"):
        Preparing({"preparation": "other.json", "folder": str(folder)})
    configs: list[dict[str, Any]] = [
        {},
        {"colums": COLUMNS},
        {"columns": []},
        {"preparation": "none.json", "folder": str(folder)},
    ]
    for config in configs:
        with pytest.raises(Failure):
            Preparing(config)
