"""The pictures of the examples: one that cannot be written is told, and the example goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.pictures import picture

pytest.importorskip("matplotlib")


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert not picture(tmp_path / "file" / "x.png", lambda figure: None)
    assert "no picture:" in capsys.readouterr().out
    assert picture(tmp_path / "folder" / "x.png", lambda figure: None)
