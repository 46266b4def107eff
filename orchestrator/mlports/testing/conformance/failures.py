"""What a row raises when the worker does not do what it must."""

from __future__ import annotations


class Failed(Exception):
    """What was expected and what came instead. `late`: nothing came in time. `section` is that of the rule broken."""

    def __init__(self, expected: str, came: str, *, late: bool = False, section: str | None = None) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came
        self.late = late
        self.section = section


class NotTried(Exception):
    """A row that finds only when it runs that it cannot be tried, and why; `missing` when for want of methods."""

    def __init__(self, why: str, *, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


def expect(holds: bool, expected: str, came: str) -> None:
    """Raises `Failed` unless it holds."""
    if not holds:
        raise Failed(expected, came)
