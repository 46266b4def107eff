"""What an orchestrator is made of."""

from __future__ import annotations

import pytest

from mlports import Orchestrator


def test_a_file_is_told_how_it_is_read() -> None:
    with pytest.raises(TypeError, match=r"Orchestrator.from_config\('mlports.toml'\)"):
        Orchestrator("mlports.toml")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="either services or a config"):
        Orchestrator()
