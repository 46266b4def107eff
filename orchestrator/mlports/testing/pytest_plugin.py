"""pytest's options for the conformance kit; its tests are mlports.testing.conformance.test_rows.

    python -m pytest --pyargs mlports.testing.conformance --worker 'python worker.py'

Every run of pytest loads this where mlports is installed, so it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options; seconds are the defaults of `check` where none are given."""
    group = parser.getgroup("mlports", "conformance of a worker program")
    group.addoption("--worker", metavar="COMMAND", help="the worker, written as for a shell, seen from here")
    group.addoption("--worker-level", metavar="LEVEL", help="demand bare, standard or full; default: what it claims")
    group.addoption("--worker-timeout", type=float, metavar="SECONDS", help="for one answer")
    group.addoption("--worker-start-timeout", type=float, metavar="SECONDS", help="for the answer to $/hello")
