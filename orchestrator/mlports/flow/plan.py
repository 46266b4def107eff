"""What a flow is before it runs: where it begins, and its steps; and how one run's parts are made of that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Protocol

from mlports.core.flow import MAX_DEMAND
from mlports.flow.callers import Setting
from mlports.flow.concurrent_stages import Concurrent, ConcurrentLink
from mlports.flow.errors import FlowError
from mlports.flow.links import Link, Origin, Puller
from mlports.flow.sinks import Sink
from mlports.flow.sources import Source
from mlports.flow.stages import Stage

if TYPE_CHECKING:
    from mlports.flow.flow import Flow


def _mark(file: Path) -> Any:
    """What is the same for two paths of one file; None for devices and pipes."""
    try:
        there = file.stat()
    except OSError:  # it is still to be made, or cannot be, which is told where it is opened
        return os.path.realpath(file)
    return (there.st_dev, there.st_ino) if S_ISREG(there.st_mode) else None


class Assembly:
    """The parts of one run, in the order in which they are made, which is the same in each run of a flow."""

    def __init__(self, setting: Setting, gate: Callable[[int], int], counted: Callable[[Source, int], None]) -> None:
        self.setting = setting
        self.sources: list[Source] = []
        self.stages: list[Stage] = []
        self.sinks: list[Sink] = []
        self._gate, self._counted = gate, counted
        self._labels: dict[str, int] = {}
        self._aside: list[Source] = []

    def name(self, label: str) -> str:
        """The label, with a number when it is not the first of its kind."""
        number = self._labels[label] = self._labels.get(label, 0) + 1
        return label if number == 1 else f"{label} #{number}"

    def add_source(self, source: Source) -> Puller:
        source.label = self.name(source.label)
        self.setting.exits.callback(source.close)
        self.sources.append(source)
        return Origin(source, self._gate, self._counted)

    def add_stage(self, stage: Stage) -> Stage:
        self.setting.exits.callback(stage.close)
        self.stages.append(stage)
        return stage

    def add_sink(self, sink: Sink) -> Sink:
        self.setting.exits.callback(sink.close)
        self.sinks.append(sink)
        return sink

    def check_files(self, journal: Path | None) -> None:
        """Raises `FlowError` when a file is written by two of the parts, or by one while another reads it."""
        users: dict[Any, str] = {}
        written = [(sink.label, sink.file) for sink in self.sinks]
        written += [("errors=", self.setting.failures.file), ("checkpoint=", journal)]
        for label, file in [*((source.label, source.file) for source in [*self.sources, *self._aside]), *written]:
            if file is None or not (mark := _mark(file)):
                continue
            if mark in users and (label, file) in written:
                raise FlowError(f"{label} would write to {file}, which {users[mark]} uses too: name another file")
            users[mark] = label

    def aside(self) -> Assembly:
        """For a part that is read to its end before the flow begins: no checkpoint interrupts it or knows of it."""
        aside = Assembly(self.setting, self._gate_aside, lambda source, count: None)
        aside.sources = aside._aside = self._aside
        return aside

    def _gate_aside(self, count: int) -> int:
        self.setting.stopped()
        return count


class Head(Protocol):
    """Where a flow begins."""

    def build(self, assembly: Assembly) -> Puller: ...

    def lines(self) -> list[str]:
        """What `explain()` says of it."""


@dataclass(frozen=True)
class Start:
    """A source of its own. `make(setting)` opens it anew for each run."""

    label: str
    make: Callable[[Setting], Source]

    def build(self, assembly: Assembly) -> Puller:
        source = self.make(assembly.setting)
        source.label = self.label
        return assembly.add_source(source)

    def lines(self) -> list[str]:
        return [self.label]


@dataclass(frozen=True)
class Step:
    """One stage. `make(assembly, name)` makes it for each run.

    where: what `explain()` says of where and how it runs. batch: that of a `batch()`, which a `call()` may take over.
    """

    label: str
    make: Callable[[Assembly, str], Stage]
    where: str = ""
    max_demand: int | None = None
    batch: int | None = None
    below: tuple[Flow[Any], ...] = ()


@dataclass(frozen=True)
class End:
    """A sink. `make(assembly, name)` makes it for each run."""

    label: str
    make: Callable[[Assembly, str], Sink]


@dataclass(frozen=True)
class Plan:
    """A whole flow: its head, its steps, its sink if it has one."""

    head: Head
    steps: tuple[Step, ...] = ()
    end: End | None = None
    max_demand: int = MAX_DEMAND

    def build(self, assembly: Assembly) -> Puller:
        """The chain of one run's parts, without the sink."""
        upstream = self.head.build(assembly)
        for step in self.steps:
            stage = assembly.add_stage(step.make(assembly, assembly.name(step.label)))
            if isinstance(stage, Concurrent):
                upstream = ConcurrentLink(stage, upstream)
            else:
                upstream = Link(stage, upstream, step.max_demand)
        return upstream

    def build_stages(self, assembly: Assembly) -> list[Stage]:
        """The stages alone: a branch is fed, and asks nobody."""
        return [assembly.add_stage(step.make(assembly, assembly.name(step.label))) for step in self.steps]

    def build_sink(self, assembly: Assembly) -> Sink | None:
        return None if self.end is None else assembly.add_sink(self.end.make(assembly, assembly.name(self.end.label)))

    def lines(self) -> Iterator[str]:
        """The drawing of `explain()`, from the source down."""
        yield from self.head.lines()
        for step in self.steps:
            demand = f"  asks for at most {step.max_demand:,}" if step.max_demand is not None else ""
            yield "  │"
            yield f"{step.label}{f'  {step.where}' if step.where else ''}{demand}"
            for flow in step.below:
                _, *lines = flow._plan.lines()
                yield from (f"  ├── {line}" for line in lines if line.strip() != "│")
        if self.end is not None:
            yield "  │"
            yield self.end.label


@dataclass(frozen=True)
class Grouping:
    """A `partition()` and a `window()` that wait for what is made of their groups."""

    key: Callable[[Any], Any] | None = None
    key_name: str = ""
    max_keys: int = 1_000_000
    window: partial[Any] | None = None
    at: Callable[[Any], float] | None = None
    late: Any = None
    said: str = ""
