"""Elixir's SDK: the kit, its own tests, a net with a process for each layer beside numpy's, and a new project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beam import BeamWorkers
from tests.languages import built


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("elixir")


class TestElixir(BeamWorkers):
    language = "elixir"
    net = "layered_net"
    raised = "RuntimeError: as asked"
