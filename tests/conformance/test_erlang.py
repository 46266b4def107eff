"""Erlang's SDK: the kit, its own tests, a net with a process for each neuron beside numpy's, and a new project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beam import BeamWorkers
from tests.languages import built


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("erlang")


class TestErlang(BeamWorkers):
    language = "erlang"
    net = "neural_net"
    raised = "error: as asked"
