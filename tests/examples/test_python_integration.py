"""One model, two programs, two kinds of hosts: whoever opens the port, the answers are the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extras import need

need("numpy", "sklearn", how="pip install 'mlports[models]'")

from examples.python_integration.__main__ import differences, tell  # noqa: E402
from examples.python_integration.hosts import by_erlang, by_mlports, erlang_is_missing  # noqa: E402
from examples.python_integration.wine import train  # noqa: E402


async def test_all_ways_give_the_same_answers(tmp_path: Path) -> None:
    rows, likely = train(tmp_path / "model.json")
    asked = [*rows, [1.0, 2.0], []]
    ways = await by_mlports(asked, tmp_path / "model.json")
    assert list(ways) == ["bare, mlports", "sdk, mlports"]
    if not erlang_is_missing():
        ways |= by_erlang(asked, tmp_path / "model.json")
        assert len(ways) == 5
    for answers in ways.values():
        assert [error for error, _ in answers[-2:]] == [
            ["unknown", "ValueError: a row has 13 numbers, and this one 2"],
            ["unknown", "ValueError: a row has 13 numbers, and this one 0"],
        ]
        assert [answer["label"] for _, answer in answers[:-2]] == likely.argmax(axis=1).tolist()
    assert differences(ways, rows, likely.tolist()) == []


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
