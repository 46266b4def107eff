"""What the examples write: a picture or figures that cannot be written are told, and the example goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.findings import keep
from examples.pictures import picture


def test_figures_that_cannot_be_kept_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert not keep({"a": 1}, tmp_path / "file")
    assert "findings.json cannot be written: " in capsys.readouterr().out
    assert keep({"a": 1}, tmp_path / "folder")
    assert json.loads((tmp_path / "folder" / "findings.json").read_text()) == {"a": 1}


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    assert not picture(tmp_path / "file" / "x.png", lambda figure: None)
    assert "no picture:" in capsys.readouterr().out
    assert picture(tmp_path / "folder" / "x.png", lambda figure: None)
