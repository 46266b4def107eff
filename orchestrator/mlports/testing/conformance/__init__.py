"""The conformance kit: whether a worker program, in whatever language, keeps to SPEC.md.

from mlports.testing.conformance import check
report = check(["build/worker"], level="full")
assert report.passed, str(report)
"""

from mlports.testing.conformance.report import Outcome, Report, Result
from mlports.testing.conformance.rows import LEVELS, Level, Row, all_rows
from mlports.testing.conformance.running import START_TIMEOUT, TIMEOUT, UnknownRow, check
from mlports.testing.conformance.subject import BadCommand

__all__ = [
    "LEVELS",
    "START_TIMEOUT",
    "TIMEOUT",
    "BadCommand",
    "Level",
    "Outcome",
    "Report",
    "Result",
    "Row",
    "UnknownRow",
    "all_rows",
    "check",
]
