"""The kit's rows as tests of pytest, one each; `mlports.testing.pytest_plugin` has the options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlports.testing.conformance.report import Outcome, story
from mlports.testing.conformance.rows import LEVELS, Level, Row, all_rows, rank
from mlports.testing.conformance.running import START_TIMEOUT, TIMEOUT, Run, applies
from mlports.testing.conformance.subject import BadCommand, NoHandshake, Subject


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each row that may apply; which do is known after the handshake."""
    if not metafunc.config.getoption("--worker", default=None):
        pytest.exit("name the worker to check: --worker 'python worker.py'", pytest.ExitCode.USAGE_ERROR)
    demanded = _demanded(metafunc.config)
    rows = [row for row in all_rows() if demanded is None or row.feature or rank(row.level) <= rank(demanded)]
    metafunc.parametrize("row", rows, ids=[row.name for row in rows])


@pytest.fixture(scope="module")
def run(pytestconfig: pytest.Config) -> Iterator[Run]:
    """The worker, met and ready to be tried."""
    command = pytestconfig.getoption("--worker")
    subject = None
    try:
        subject = Subject(
            shlex.split(command),
            Path(pytestconfig.invocation_params.dir),
            pytestconfig.getoption("--worker-timeout") or TIMEOUT,
            pytestconfig.getoption("--worker-start-timeout") or START_TIMEOUT,
        )
        yield Run(subject, subject.meet())
    except (BadCommand, NoHandshake, ValueError) as error:
        pytest.exit(f"{command}: nothing could be checked.\n{error}", returncode=1)
    finally:
        if subject is not None:
            subject.close_all()


def test_row(row: Row, run: Run, pytestconfig: pytest.Config) -> None:
    demanded = _demanded(pytestconfig)
    if not applies(row, demanded or run.subject.claimed_level, run.subject):
        pytest.skip(f"belongs to level {row.level}")
    result = run.one(row)
    if result.outcome is Outcome.FAILED or (demanded is not None and result.missing):
        told = "\n".join(story(result)) if result.expected else f"not tried: {result.why}"
        pytest.fail(told, pytrace=False)
    if result.outcome is not Outcome.PASSED:
        pytest.skip(result.why or f"lacking, and optional: {result.came}")


def _demanded(config: pytest.Config) -> Level | None:
    said = config.getoption("--worker-level", default=None)
    level = next((one for one in LEVELS if one == said), None)
    if said is not None and level is None:
        pytest.exit(f"--worker-level is one of {', '.join(LEVELS)}, not {said!r}", pytest.ExitCode.USAGE_ERROR)
    return level
