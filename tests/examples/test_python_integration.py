"""One model, two programs, two kinds of hosts: whoever opens the port, the answers are the same to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.extras import need

need("numpy", "sklearn", how="pip install 'mlports[models]'")

from examples.python_integration.__main__ import differences, tell  # noqa: E402
from examples.python_integration.hosts import Answer, by_erlang, by_mlports, erlang_is_missing  # noqa: E402
from examples.python_integration.wine import train  # noqa: E402

Wines = tuple[Path, list[list[float]], Any]
ODD: list[list[float]] = [[1.0, 2.0], []]


@pytest.fixture(scope="module")
def wines(tmp_path_factory: pytest.TempPathFactory) -> Wines:
    """The model's file, the rows, and what scikit-learn says of them."""
    path = tmp_path_factory.mktemp("wines") / "model.json"
    return path, *train(path)


def check(ways: dict[str, list[Answer]], wines: Wines) -> None:
    _, rows, likely = wines
    for answers in ways.values():
        assert [error for error, _ in answers[-2:]] == [
            ["unknown", "ValueError: a row has 13 numbers, and this one 2"],
            ["unknown", "ValueError: a row has 13 numbers, and this one 0"],
        ]
        assert [answer["label"] for _, answer in answers[:-2]] == likely.argmax(axis=1).tolist()
    assert differences(ways, rows, likely.tolist()) == []


async def test_with_the_sdk_and_without_it_the_answers_are_scikit_learn_s(wines: Wines) -> None:
    ways = await by_mlports([*wines[1], *ODD], wines[0])
    assert list(ways) == ["bare, mlports", "sdk, mlports"]
    check(ways, wines)


@pytest.mark.skipif(bool(erlang_is_missing()), reason=erlang_is_missing())
@pytest.mark.timeout(120)  # a compiler, a virtual machine, and three workers
def test_a_real_erlang_node_gets_the_same(wines: Wines) -> None:
    ways = by_erlang([*wines[1], *ODD], wines[0])
    assert set(ways) == {"bare, open_port", "sdk, open_port", "sdk, mlports_port"}
    check(ways, wines)


def test_a_difference_is_found() -> None:
    """Guards the example's own judgement."""
    ways = {name: [[None, {"label": 0, "likely": [likely]}]] for name, likely in (("a", 0.5), ("b", 0.25))}
    assert differences(ways, [[1.0]], [[0.5]]) == ["b differs from a"]
    assert differences({"a": ways["a"]}, [[1.0]], [[0.25]]) == ["0.25 from scikit-learn"]


def test_without_erlang_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the machines that have none: the example holds without it, and leaves nobody to wonder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tell(tmp_path / "model.json") == []
    printed = capsys.readouterr().out
    assert "the Erlang node is left out: erl and erlc not installed here" in printed
    assert "2 ways, 0 of them with other answers" in printed
