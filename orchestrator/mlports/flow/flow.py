"""`Flow`: what is to be done with items, said step by step, and done when it is run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from mlports.core.flow import FAR, MAX_DEMAND, Demand, TokenBucket, whole
from mlports.flow import endings, groups, openers
from mlports.flow.callers import Setting, own_thread
from mlports.flow.checkpoints import Checkpoint
from mlports.flow.concurrent_stages import Concurrent
from mlports.flow.errors import FlowError
from mlports.flow.failures import Errors
from mlports.flow.joins import Branch, Fed, Merge, Within
from mlports.flow.places import Place, concurrent, name_of
from mlports.flow.plan import Assembly, End, Grouping, Plan, Step
from mlports.flow.running import OnProgress, Report, Run, shown_progress
from mlports.flow.stages import Batch, Filter, FlatMap, Map, RateLimit, Stage, Take

if TYPE_CHECKING:
    from mlports import BlockingOrchestrator, Orchestrator

    AnyOrchestrator = Orchestrator | BlockingOrchestrator

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")

_FUNCTIONS: dict[str, Any] = {"map": Map, "filter": Filter, "flat_map": FlatMap}


class Flow(Generic[T]):
    """A lazy pipeline of items of type T. Each method gives a new flow; nothing is done until one is run or iterated.

    Functions run one chunk after the other in the thread that runs the flow, or with `on` "threads" or "workers"
    (worker processes) several at a time, `workers` of them. `ordered` keeps the order of the items there; without it
    those that are done first come first. `max_demand` is how many items a stage may have asked for and not handed on,
    `min_demand` (half of it) the number at which it asks for more.
    """

    def __init__(self, plan: Plan, grouping: Grouping | None = None) -> None:
        self._plan = plan
        self._grouping = grouping

    # -- where items come from

    @classmethod
    def from_iterable(cls, items: Iterable[U] | AsyncIterable[U], *, max_demand: int = MAX_DEMAND) -> Flow[U]:
        """Items of anything that can be iterated, also asynchronously. An iterator is used up by the first run.

        `max_demand`: the most items that the flow's end asks for at a time; they grow from 1 while they come quickly.
        """
        return Flow(Plan(openers.iterable(items), max_demand=Demand(max_demand).max))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        batches: bool = False,
        max_demand: int = MAX_DEMAND,
        **options: Any,
    ) -> Flow[Any]:
        """Rows of a CSV, TSV, JSON-lines, Parquet or Arrow file as dicts, read as they are asked for.

        `format`: "csv", "tsv", "jsonl", "parquet" or "arrow" where the name does not say it. Options of CSV:
        `encoding`, `delimiter`, `columns` (of a file without a header), `converters` (a function of the text by column;
        without, values are text as they stand), `allow_empty`; of JSON lines: `encoding`, `allow_empty`; of Parquet and
        Arrow: `columns` (those to read).

        `batches`: Arrow record batches instead of rows (extra `tables`), counted as rows; of CSV each of a `block` of
        the file (4 MiB), with `columns` to read, their Arrow `types`, `delimiter` and `allow_empty`.

        A run raises `SourceError` for a file that cannot be read, is empty or cut short; rows of a wrong length, or
        that cannot be converted, are treated as items that failed.
        """
        return Flow(Plan(openers.file(path, format, batches, options), max_demand=Demand(max_demand).max))

    @classmethod
    def from_service(
        cls,
        target: str,
        *params: Any,
        timeout: float | None = None,
        replayable: bool = False,
        max_demand: int = MAX_DEMAND,
    ) -> Flow[Any]:
        """Items of a streaming method, "service.method", of the orchestrator that the run is given.

        `timeout` in seconds is for all of it. `replayable`: it gives the same items each time, so that a run may be
        gone on with after a checkpoint.
        """
        return Flow(Plan(openers.service(target, params, timeout, replayable), max_demand=Demand(max_demand).max))

    # -- what is done with them

    def map(
        self,
        f: Callable[[T], U],
        *,
        on: Place | None = None,
        workers: int = 2,
        ordered: bool = True,
        max_demand: int | None = None,
        min_demand: int | None = None,
    ) -> Flow[U]:
        """Each item's `f(item)`."""
        return self._apply("map", f, on, workers, ordered, (max_demand, min_demand))

    def filter(
        self,
        f: Callable[[T], object],
        *,
        on: Place | None = None,
        workers: int = 2,
        ordered: bool = True,
        max_demand: int | None = None,
        min_demand: int | None = None,
    ) -> Flow[T]:
        """The items for which `f(item)` is true."""
        return self._apply("filter", f, on, workers, ordered, (max_demand, min_demand))

    def flat_map(
        self,
        f: Callable[[T], Iterable[U]],
        *,
        on: Place | None = None,
        workers: int = 2,
        ordered: bool = True,
        max_demand: int | None = None,
        min_demand: int | None = None,
    ) -> Flow[U]:
        """All that `f(item)` yields. It is taken as it is asked for; on threads and workers, all of an item at once."""
        return self._apply("flat_map", f, on, workers, ordered, (max_demand, min_demand))

    def batch(self, size: int) -> Flow[list[T]]:
        """Lists of `size` items; the last may be shorter. Before a `call()`, how many items travel together."""
        whole("a batch", size)
        most = self._plan.max_demand
        return self._with(Step(f"batch({size})", lambda _, name: Batch(name, size, most), batch=size))

    def take(self, count: int) -> Flow[T]:
        """The first `count` items. No more are asked for."""
        whole("a count", count, least=0)
        return self._with(Step(f"take({count})", lambda _, name: Take(name, count)))

    def rate_limit(self, per_second: float, burst: int = 1) -> Flow[T]:
        """At most `per_second` items a second, `burst` of them at once after a pause. None is asked for too early."""
        TokenBucket(per_second, burst)
        label = f"rate_limit({per_second:g}/s, burst {burst})"
        return self._with(Step(label, lambda parts, name: RateLimit(name, per_second, burst, parts.setting.stopped)))

    def call(
        self,
        target: str,
        *,
        batch: int | None = None,
        in_flight: int = 4,
        ordered: bool = True,
        whole: bool = False,
        timeout: float | Literal["configured"] | None = "configured",
    ) -> Flow[Any]:
        """The result of "service.method" for each item, through the orchestrator that the run is given.

        `batch` items (256) are sent together, `in_flight` such batches are under way. Right after a `batch(n)` it is
        n, and the results come one by one; with `whole` each of those lists is the argument of one call. `timeout` in
        seconds is for each request; None for no limit, "configured" for the service's own.
        """
        steps = self._settled()._plan.steps
        before = steps[-1].batch if steps and not whole and batch is None else None
        base: Flow[Any] = Flow(replace(self._plan, steps=steps[:-1])) if before else self
        # A call of whole batches has no use for several of them in one request.
        size = batch or before or (1 if whole else 256)
        if size < 1 or in_flight < 1:
            raise ValueError(f"batch and in_flight are at least 1, not {batch} and {in_flight}")
        told = "" if ordered else ", in any order"
        fixed = None if batch is None and not before and not whole else size
        return base._with(
            Step(
                f"call({target})",
                lambda parts, name: called(parts, name, target, size, fixed, in_flight, ordered, timeout),
                f"{in_flight} batches of at most {size} in flight{told}",
            )
        )

    # -- groups

    def partition(self, key: Callable[[T], Any], *, max_keys: int = 1_000_000) -> Flow[T]:
        """Groups the items by `key(item)` for the `window()` or `reduce()` that follows.

        Each group is kept in memory; more than `max_keys` of them, or of its windows, end the run with `FlowError`.
        """
        grouping = replace(self._grouping or Grouping(), key=key, key_name=name_of(key), max_keys=max_keys)
        return Flow(self._open_plan(), grouping)

    def window(
        self,
        *,
        count: int | None = None,
        time: float | None = None,
        every: float | None = None,
        session: float | None = None,
        at: Callable[[T], float] | None = None,
        lateness: float = 0.0,
        late: str | os.PathLike[str] | Callable[[T], object] | None = None,
    ) -> Flow[Any]:
        """Groups the items by `count`; by spans of `time`, one `every`; or by `session`s, that end with such a gap.

        `at(item)` gives its time, in any unit; without it, it is when it came, in seconds. An item may come `lateness`
        after a later one; after that it is late: given to `late`, a function or a file of JSON lines, or dropped, and
        counted in the report. What comes out are `Window`s: of lists, or of what a `reduce()` right after makes.
        """
        if self._grouping is not None and self._grouping.window is not None:
            raise FlowError("this flow has a window already: reduce its items before there is another")
        return Flow(self._open_plan(), groups.windowed(self._grouping, count, time, every, session, at, lateness, late))

    @overload
    def reduce(
        self, initial: Callable[[], V], step: Callable[[V, T], V], *, join: Callable[[V, V], V] | None = None
    ) -> Flow[Any]: ...

    @overload
    def reduce(
        self, initial: V, step: Callable[[V, T], V], *, join: Callable[[V, V], V] | None = None
    ) -> Flow[Any]: ...

    def reduce(self, initial: Any, step: Callable[[Any, T], Any], *, join: Any = None) -> Flow[Any]:
        """What `step(accumulator, item)` makes of all items, of those of each partition, or of each window.

        `initial`: what makes the first accumulator, or a value that each group gets a copy of. Gives the one value;
        after `partition()` pairs (key, value); after `window()` `Window`s. `join` makes one accumulator of two, where a
        late item joins two sessions.
        """
        return Flow(self._open_plan())._with(groups.reduced(self._grouping, initial, step, join))

    # -- several flows

    def merge(self, *others: Flow[T]) -> Flow[T]:
        """The items of all, a chunk of each in turn."""
        plans = [flow._settled()._open_plan() for flow in (self, *others)]
        return Flow(Plan(Merge(tuple(plans)), max_demand=self._plan.max_demand))

    def join(
        self,
        other: Flow[U],
        key: Callable[[T], Any],
        other_key: Callable[[U], Any] | None = None,
        *,
        how: Literal["inner", "left"] = "inner",
        within: float | None = None,
        at: Callable[[T], float] | None = None,
        other_at: Callable[[U], float] | None = None,
        lateness: float = 0.0,
        max_items: int = 1_000_000,
    ) -> Flow[tuple[T, Any]]:
        """Pairs (item, other's item) with the same key. `other_key` is `key` where it is not given.

        Without `within`, `other` is finite, and read into memory first; `how` "left" gives (item, None) where there is
        no partner. With it, pairs whose times `at(item)` and `other_at(item)` are at most `within` apart; both flows
        run in the order of time but for `lateness`. More than `max_items` in memory end the run with `FlowError`.
        """
        if how not in ("inner", "left"):
            raise ValueError(f'how is "inner" or "left", not {how!r}')
        right, right_key = other._settled()._open_plan(), other_key or key
        if within is None:
            step = groups.hash_joined(right, key, right_key, how == "left", max_items)
            return self._with(step)
        if at is None or how != "inner":
            raise FlowError("a join within a time needs at= (and other_at=, if it differs), and is an inner one")
        label = f"join(by {name_of(key)} within {within:g})"
        plans, times = (self._settled()._open_plan(), right), (at, other_at or at)
        head = Within(label, plans, (key, right_key), times, within, lateness, max_items)
        return Flow(Plan(head, max_demand=self._plan.max_demand))

    def branch(self, build: Callable[[Flow[T]], Flow[Any]], *, when: Callable[[T], object] | None = None) -> Flow[T]:
        """Feeds the flow that `build(branch)` gives, which has to end in a sink, and goes on with the same items.

        With `when`, the branch gets the items for which it is true, and those alone; the others go on.
        """
        built: object = build(Flow(Plan(Fed(), max_demand=self._plan.max_demand)))
        flow = built._settled() if isinstance(built, Flow) else None
        plan = flow._plan if flow is not None else Plan(Fed())
        if flow is None or not isinstance(plan.head, Fed) or plan.end is None:
            raise FlowError("branch() needs a function that makes of the flow it is given one that ends in a sink")

        def make(parts: Assembly, name: str) -> Stage:
            stages, sink = plan.build_stages(parts), plan.build_sink(parts)
            assert sink is not None
            return Branch(name, stages, sink, when, parts.setting.failures)

        return self._with(Step(f"branch({name_of(when)})" if when else "branch", make, below=(flow,)))

    # -- where they go

    def to_jsonl(self, path: str | os.PathLike[str]) -> Flow[T]:
        """A file with one JSON value on each line. Items that JSON cannot hold are treated as failed."""
        return self._ending(endings.jsonl(path))

    def to_csv(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> Flow[T]:
        """A CSV file with a header, of mappings; or of lists and tuples, with `columns` given."""
        return self._ending(endings.csv(path, columns))

    def to_parquet(self, path: str | os.PathLike[str], *, row_group: int = 16_384) -> Flow[T]:
        """A Parquet file of mappings (extra `tables`), in row groups of so many rows. It is there once complete.

        Its columns are the first row's; a row that has others is treated as failed, one that lacks some has nulls.
        """
        whole("a row group", row_group)
        return self._ending(endings.parquet(path, row_group))

    def to_sql(self, url: str, table: str, *, key: Sequence[str] | str | None = None) -> Flow[T]:
        """Rows of a table, of mappings, through SQLAlchemy (extra `sql`); `url` as "sqlite:///out.db".

        With `key`, a row whose key is there already takes its place. A table that is not there is made, by what
        the first item holds. With a checkpoint each row is written exactly once: the
        place that the flow has come to is in the same transaction.
        """
        return self._ending(endings.sql(url, table, key))

    def to_service(self, target: str, *, batch: int = 256, in_flight: int = 4) -> Flow[T]:
        """A call of "service.method" for each item; what it answers is dropped."""
        return self._ending(endings.service(target, batch, in_flight))

    def to(self, f: Callable[[T], object]) -> Flow[T]:
        """`f(item)` for each, in the thread that runs the flow."""
        return self._ending(endings.function(f))

    # -- doing it

    def run(
        self,
        orchestrator: AnyOrchestrator | None = None,
        *,
        errors: Errors = "stop",
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        progress: bool | OnProgress = False,
    ) -> Report:
        """Runs it to its end, in this thread.

        orchestrator: for flows that call services, what `mlports.open()` gives. errors: what is done about items that a
        stage fails on: "stop" raises `FlowFailed`, "skip" leaves them out, a `Path` is a file of JSON lines to which
        they are added with the reason, a function is given a `DeadLetter`. checkpoint: the journal's path, by which a
        run that was killed is gone on with. progress: True for a bar on stderr, or a function that is given `Progress`.
        """
        with closing(Setting(orchestrator, None, errors)) as setting:
            return self._execute(setting, checkpoint, progress)

    async def arun(
        self,
        orchestrator: AnyOrchestrator | None = None,
        *,
        errors: Errors = "stop",
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        progress: bool | OnProgress = False,
    ) -> Report:
        """The same in async code. The flow's functions run in a thread, so that they do not hold up the event loop."""
        setting = Setting(orchestrator, asyncio.get_running_loop(), errors)
        async with own_thread(setting) as within:
            return await within(lambda: self._execute(setting, checkpoint, progress))

    def collect(self, orchestrator: AnyOrchestrator | None = None, *, errors: Errors = "stop") -> list[T]:
        """All items as a list."""
        return list(self.stream(orchestrator, errors=errors))

    async def acollect(self, orchestrator: AnyOrchestrator | None = None, *, errors: Errors = "stop") -> list[T]:
        """All items as a list, in async code."""
        return [item async for item in self.astream(orchestrator, errors=errors)]

    def stream(self, orchestrator: AnyOrchestrator | None = None, *, errors: Errors = "stop") -> Iterator[T]:
        """The items one by one, taken in chunks that grow from 1; between two chunks nothing is produced."""
        plan = self._settled()._open_plan()
        with closing(Setting(orchestrator, None, errors)) as setting:
            for chunk in Run(plan, setting).chunks():
                yield from chunk

    async def astream(
        self, orchestrator: AnyOrchestrator | None = None, *, errors: Errors = "stop"
    ) -> AsyncIterator[T]:
        """The same in async code. Close it (`aclose()`, `contextlib.aclosing`) where it is left before its end."""
        plan = self._settled()._open_plan()
        setting = Setting(orchestrator, asyncio.get_running_loop(), errors)
        async with own_thread(setting) as within:
            chunks = await within(lambda: Run(plan, setting).chunks())
            while chunk := await within(lambda: next(chunks, None)):
                for item in chunk:
                    yield item

    def __iter__(self) -> Iterator[T]:
        return self.stream()

    def __aiter__(self) -> AsyncIterator[T]:
        return self.astream()

    def explain(self) -> str:
        """A drawing of the flow, from its source down to its sink."""
        return "\n".join(self._settled()._plan.lines())

    def __repr__(self) -> str:
        return f"<Flow\n{self.explain()}\n>"

    # -- within

    def _apply(
        self, kind: Any, f: Callable[[Any], Any], on: Place | None, workers: int, ordered: bool, demand: Any
    ) -> Flow[Any]:
        if asyncio.iscoroutinefunction(f):
            raise FlowError(
                f"{name_of(f)} is an async function: use it in a service, or in an async generator as source"
            )
        label, most = f"{kind}({name_of(f)})", demand[0]
        Demand(MAX_DEMAND if most is None else most, demand[1])  # its own check of the numbers
        if on is None:
            function = _FUNCTIONS[kind]
            return self._with(
                Step(label, lambda parts, name: function(name, f, parts.setting.failures), max_demand=most)
            )
        if on not in ("threads", "workers") or workers < 1:
            raise ValueError(f'on is "threads" or "workers", of at least 1, not {on!r} of {workers}')
        where = f"on {workers} {on}{'' if ordered else ', in any order'}"
        return self._with(
            Step(
                label,
                lambda parts, name: concurrent(parts, name, kind, f, on, workers, ordered, demand),
                where,
                max_demand=most,
            )
        )

    def _with(self, step: Step) -> Flow[Any]:
        plan = self._settled()._open_plan()
        return Flow(replace(plan, steps=(*plan.steps, step)))

    def _settled(self) -> Flow[Any]:
        """This flow with what its last `window()` gathers as its items."""
        if self._grouping is None:
            return self
        if self._grouping.window is None:
            raise FlowError("partition() groups items for a window() or a reduce(), and neither follows")
        return Flow(self._plan)._with(groups.collected(self._grouping))

    def _open_plan(self) -> Plan:
        if self._plan.end is not None:
            raise FlowError(f"this flow ends in {self._plan.end.label}: put branch() before it to have several sinks")
        return self._plan

    def _ending(self, end: End) -> Self:
        plan = self._settled()._open_plan()
        return type(self)(replace(plan, end=end))

    def _execute(
        self, setting: Setting, checkpoint: str | os.PathLike[str] | Checkpoint | None, progress: bool | OnProgress
    ) -> Report:
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(Path(checkpoint))
        plan = self._settled()._plan
        with shown_progress(progress, plan.head.lines()[-1]) as on_progress:
            return Run(plan, setting, checkpoint, on_progress).execute()


def called(
    parts: Assembly,
    name: str,
    target: str,
    size: int,
    fixed: int | None,
    in_flight: int,
    ordered: bool,
    timeout: float | Literal["configured"] | None,
) -> Concurrent:
    """The stage that calls a service."""
    return Concurrent(
        name,
        parts.setting.mapper(target, in_flight, ... if timeout == "configured" else timeout),
        parts.setting.failures,
        parts.setting.stopped,
        lanes=in_flight,
        demand=Demand(size * in_flight, size * in_flight - size),
        ordered=ordered,
        fixed=fixed,
        quick=FAR,
    )
