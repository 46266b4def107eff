"""One run of a flow: asks its end for items until there are none, and keeps the journal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from mlports.core.flow import Pace, Progress, ProgressMeter
from mlports.flow.callers import Setting
from mlports.flow.checkpoints import Checkpoint, Journal
from mlports.flow.errors import CheckpointError
from mlports.flow.grouping import Windowed
from mlports.flow.joins import JoinedWithin
from mlports.flow.links import PAUSE
from mlports.flow.plan import Assembly, Plan
from mlports.flow.sinks import Nowhere
from mlports.flow.sources import Source

_BETWEEN_REPORTS = 0.1  # seconds

OnProgress = Callable[[Progress], object]


@dataclass(frozen=True)
class Report:
    """What a run did. Counts are of this run alone.

    items: taken from the sources. given: taken by the sink. failed: left out because a stage failed on them. late:
    came after their window was over, or too late for a partner. seconds: how long it took. resumed_at: items that
    earlier runs had done; None when there was none. finished_before: an earlier run had done it all. stages: for
    each, the items (taken, given).
    """

    items: int
    given: int
    failed: int
    late: int
    seconds: float
    resumed_at: int | None = None
    finished_before: bool = False
    stages: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        rest = "".join(f", {count:,} {what}" for what, count in (("failed", self.failed), ("late", self.late)) if count)
        return f"{self.items:,} items in, {self.given:,} out{rest}, in {self.seconds:.2f} s ({self.rate:,.0f}/s)"


class Run:
    """A run that has not begun. `chunks()` gives the flow's items; `execute()` takes them to its sink."""

    def __init__(
        self,
        plan: Plan,
        setting: Setting,
        checkpoint: Checkpoint | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._plan, self._setting = plan, setting
        self._checkpoint, self._on_progress = checkpoint, on_progress
        self._items = 0
        self._resumed_at: int | None = None
        self._next_items = self._next_seconds = sys.float_info.max
        self._last_report = monotonic()
        self._assembly = Assembly(setting, self._gate, self._counted)
        self._chain = plan.build(self._assembly)
        self._sink = plan.build_sink(self._assembly) or self._assembly.add_sink(Nowhere("nowhere", setting.failures))
        self._assembly.check_files(None if checkpoint is None else Path(checkpoint.path))
        self._journal: Journal | None = None
        self._meter = ProgressMeter(self._total(), monotonic())
        self._began = monotonic()

    def chunks(self) -> Iterator[list[Any]]:
        """The items as they come. Between two chunks nothing is produced."""
        pace = Pace(self._plan.max_demand)
        while True:
            before = monotonic()
            chunk = self._chain.pull(pace.size)
            if chunk is PAUSE:
                for chunk in self._chain.drain():
                    yield chunk
                self._save()
                continue
            if not chunk:
                return
            yield chunk
            pace.took(len(chunk), monotonic() - before)

    def execute(self) -> Report:
        """Runs it to its end. Raises what stops it; what was written before is then complete on the disk."""
        if self._checkpoint is not None and self._take_up(self._checkpoint):
            return self._report(finished_before=True)
        for chunk in self.chunks():
            self._sink.write(chunk)
        self._finish()
        self._tell_progress(monotonic())
        return self._report()

    def _finish(self) -> None:
        if self._journal is not None:
            self._save(done=True)
        for sink in self._assembly.sinks:
            sink.finish()

    # -- the journal

    def _take_up(self, checkpoint: Checkpoint) -> bool:
        """Opens the journal and goes to where the last run had come; whether there is nothing left to do."""
        path = Path(checkpoint.path)
        self._journal = journal = Journal(path, "\n".join([*self._plan.lines()]))
        self._setting.exits.callback(journal.close)
        keeper = self._keeper()
        record = journal.record if keeper is None else keeper.begin(journal.id)
        if record is not None:
            self._restore(record)
        if journal.done or (record or {}).get("done"):
            return True
        self._save()  # what cannot be kept is told before any work is done
        return False

    def _keeper(self) -> Any:
        """The sink that keeps the record itself, in the transaction of its items; None when there is none."""
        keepers = [sink for sink in self._assembly.sinks if hasattr(sink, "keep")]
        if len(keepers) > 1:
            names = ", ".join(sink.label for sink in keepers)
            raise CheckpointError(f"one transaction cannot span {names}: with a checkpoint, write to one database")
        return keepers[0] if keepers else None

    def _restore(self, record: dict[str, Any]) -> None:
        parts = self._assembly
        kinds: Any = (("sources", parts.sources), ("stages", parts.stages), ("sinks", parts.sinks))
        for kind, own in kinds:
            for part in own:
                if (state := record[kind][part.label]) is not None:
                    part.restore(state)
        self._items = self._resumed_at = record["items"]
        self._meter.begin_at(self._items, self._done(), monotonic())

    def _save(self, done: bool = False) -> None:
        assert self._journal is not None
        assert self._checkpoint is not None
        parts = self._assembly
        for sink in parts.sinks:
            sink.flush()
        self._setting.failures.flush()
        record = {
            "items": self._items,
            "done": done,
            "sources": {source.label: source.state() for source in parts.sources},
            "stages": {stage.label: stage.state() for stage in parts.stages},
            "sinks": {sink.label: sink.state() for sink in parts.sinks},
        }
        keeper = self._keeper()
        if keeper is not None:
            keeper.keep(record)
            if done:
                self._journal.save({}, done)
        else:
            self._journal.save(record, done)
        self._next_items = self._items + self._checkpoint.items
        self._next_seconds = monotonic() + self._checkpoint.seconds

    # -- what the sources ask and tell

    def _gate(self, count: int) -> int:
        self._setting.stopped()
        if self._journal is None:
            return count
        new = self._items + self._checkpoint.items > self._next_items if self._checkpoint else False
        if self._items >= self._next_items or (new and monotonic() >= self._next_seconds):
            return 0
        return min(count, int(self._next_items) - self._items)

    def _counted(self, source: Source, count: int) -> None:
        self._items += count
        if self._on_progress is not None:
            now = monotonic()
            if now - self._last_report >= _BETWEEN_REPORTS:
                self._tell_progress(now)

    def _tell_progress(self, now: float) -> None:
        self._last_report = now
        if self._on_progress is not None:
            self._on_progress(self._meter.look(self._items, self._done(), now))

    def _total(self) -> int | None:
        sources = self._assembly.sources
        return sources[0].total if len(sources) == 1 else None

    def _done(self) -> int:
        """In the source's own unit; of several, which may have different ones, in items."""
        sources = self._assembly.sources
        return sources[0].done if len(sources) == 1 else self._items

    def _report(self, finished_before: bool = False) -> Report:
        stages = self._assembly.stages
        return Report(
            items=self._items - (self._resumed_at or 0),
            given=self._sink.taken,
            failed=self._setting.failures.count,
            late=sum(stage.late for stage in stages if isinstance(stage, Windowed | JoinedWithin)),
            seconds=monotonic() - self._began,
            resumed_at=self._resumed_at,
            finished_before=finished_before,
            stages={stage.label: (stage.taken, stage.given) for stage in stages},
        )


@contextmanager
def shown_progress(progress: bool | OnProgress, what: str) -> Iterator[OnProgress | None]:
    """What to tell progress to: a function of the caller's, or a bar on stderr."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), console=Console(stderr=True)
    )
    with bars:
        task = bars.add_task(what, total=None, told="")
        yield lambda now: bars.update(task, total=now.total, completed=now.done, told=str(now))
