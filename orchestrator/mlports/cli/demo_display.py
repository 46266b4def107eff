"""How the demo looks: a live picture on a terminal, plain lines elsewhere, nothing when only the result is wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlports.cli.output import OutputFailed, harmless, is_terminal, put

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from mlports.cli.demo import Check, Outcome


class Display:
    """Shows what happens while it happens. With `quiet` it shows nothing.

    Nothing of it raises, because it is called in the midst of the workers' affairs; `failed` says what was wrong.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.failed: OutputFailed | None = None
        self._quiet = quiet
        self._live: Live | None = None
        self._console: Console | None = None
        if not quiet and is_terminal(sys.stdout):
            from rich.console import Console
            from rich.live import Live

            self._console = Console(highlight=False)
            self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._show(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._show(self._live.stop)

    def say(self, text: str) -> None:
        """One line on what just happened."""
        text, console = harmless(text), self._console
        if console is not None:
            style = None if text.startswith(" ") else "bold"
            self._show(lambda: console.print(text, markup=False, style=style))
        elif not self._quiet:
            self._show(lambda: put(text))

    def picture(self, answered: int, seconds: float, latencies: Sequence[float], service: dict[str, Any]) -> None:
        """How it stands: answers so far, in how many seconds; the latest latencies in seconds; the service's status."""
        live = self._live
        if live is not None:
            self._show(lambda: live.update(_picture(answered, seconds, latencies, service), refresh=True))

    def result(self, outcome: Outcome, checks: Sequence[Check]) -> None:
        """What was measured, and what held."""
        killed = outcome.killed.get("in_flight", 0)
        lines = [
            "",
            f"accuracy         {outcome.accuracy:.4f} on {outcome.images} held-out images "
            f"({outcome.accuracy_in_process:.4f} in process)",
            f"requests         {outcome.requests:,} in {outcome.seconds:.2f} s, {outcome.concurrency} at a time, "
            f"{outcome.replicas} workers",
            f"calls per second {outcome.calls_per_second:,.0f} "
            f"({outcome.calls_per_second_before_kill:,.0f} before the kill)",
            f"latency          p50 {outcome.p50_ms:.2f} ms, p99 {outcome.p99_ms:.2f} ms",
            f"killed           {killed} requests in flight, {outcome.retried} sent again, {outcome.failed} failed",
            "",
        ]
        for line in lines:
            self.say(f" {line}" if line else "")
        for check in checks:
            self._mark(check)

    def _mark(self, check: Check) -> None:
        text, console = f"{check.check}: {check.detail}", self._console
        if console is None:
            self.say(f"{'ok    ' if check.held else 'FAILED'} {text}")
            return
        self._show(lambda: console.print("[green]✔[/]" if check.held else "[red]✘[/]", end=" "))
        self._show(lambda: console.print(text, markup=False))

    def _show(self, write: Callable[[], object]) -> None:
        if self.failed is None:
            try:
                write()
            except OutputFailed as error:
                self.failed = error
            except OSError as error:
                self.failed = OutputFailed(error)


def _picture(answered: int, seconds: float, latencies: Sequence[float], service: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    times = sorted(latencies)
    p50, p99 = (1000 * times[int(share * (len(times) - 1))] if times else 0.0 for share in (0.5, 0.99))
    rate = answered / seconds if seconds else 0.0
    table = Table("worker", "state", "pid", "in flight", "answered", "restarts", box=None, pad_edge=False)
    for replica in service["replicas"]:
        style = "green" if replica["state"] == "ready" else "red" if replica["state"] == "dead" else "yellow"
        table.add_row(
            f"digits/{replica['replica']}",
            Text(replica["state"], style=style),
            str(replica["pid"] or "–"),
            str(replica["in_flight"]),
            f"{replica['answered']:,}",
            str(replica["restarts"]),
        )
    summary = f"{answered:,} answered · {rate:,.0f} calls/s · p50 {p50:.2f} ms · p99 {p99:.2f} ms"
    return Group(Text(summary, style="bold cyan"), table, "")
