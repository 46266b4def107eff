"""`Orchestrator`: the services, started and stopped together, and the ways to call them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Unpack

from mlports.core.batching import ChunkSize
from mlports.core.quarantine import Quarantine
from mlports.errors import CallError, ConfigError, NotRunning, StartFailed, UnknownMethod, UnknownService
from mlports.runtime.call import Call, CallOptions, InputOptions, Special, Stream, StreamItems
from mlports.runtime.calls_of_workers import CallsOfWorkers
from mlports.runtime.guard import Guard
from mlports.runtime.handle import SupervisorHandle
from mlports.runtime.mapping import map_calls
from mlports.runtime.memory_watch import MemoryWatcher
from mlports.runtime.pipeline import Pipeline, PipelineItems
from mlports.runtime.process import allow_processes
from mlports.runtime.segments import SegmentPool
from mlports.runtime.service import Service
from mlports.runtime.streaming import InputFeed
from mlports.runtime.template import Templates
from mlports.runtime.tree import SupervisionTree
from mlports.telemetry import Event, EventLog
from mlports_protocol import MethodInfo

if TYPE_CHECKING:
    from mlports.config import Config, ServiceConfig
    from mlports.runtime.recording import Recordings


class _Configured:
    def __repr__(self) -> str:
        return "<the service's own timeout>"


CONFIGURED: Final = _Configured()
Timeout = float | None | _Configured

# A target's service and method, and what an ordinary call of it takes: the dispatcher's function and the timeout.
_Route = tuple[Service, str, Callable[..., Call], float | None]


class Orchestrator:
    """Runs services and calls them. Async; `mlports.open()` is the same for programs without an event loop.

        async with Orchestrator.from_config("mlports.toml") as orch:
            y = await orch.call("digits.predict", x, timeout=1.0)

    `services` maps names to `ServiceConfig`s. A target is "service.method", or a pipeline's name. A `timeout` is in
    seconds; left out, it is the service's own; None means as long as it takes. All methods belong to the event loop
    that started it.
    """

    def __init__(self, services: Mapping[str, ServiceConfig] | None = None, *, config: Config | None = None) -> None:
        if (services is None) == (config is None):
            raise TypeError("an Orchestrator is made of either services or a config")
        if isinstance(services, str | os.PathLike):
            raise TypeError(f"an Orchestrator is made of services; of a file by Orchestrator.from_config({services!r})")
        if config is None:
            from mlports.config import Config

            config = Config(service=dict(services or {}))
        if not config.service and not config.program:
            raise ConfigError("there is no service to run", fix="add a [service.NAME] table with a command")
        self.config = config
        self._events = EventLog()
        self._guard = Guard(self._events)
        self._quarantine = Quarantine()
        self._templates = Templates(self._events, self._guard)
        self._segments = SegmentPool() if SegmentPool.is_possible() else None
        self._recordings: Recordings | None = None
        self._services: dict[str, Service] = {}
        self._tree: SupervisionTree | None = None
        self._calls_of_workers: CallsOfWorkers | None = None
        self._routes: dict[str, _Route] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._state = "new"
        self._stopped: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Orchestrator:
        """An orchestrator for an `mlports.toml`. Raises `ConfigError`."""
        from mlports.config import load_config

        return cls(config=load_config(path))

    # -- its life

    async def start(self) -> None:
        """Starts every service; returns when each has all its replicas, or is down.

        Raises `StartFailed` when all of them are down, telling why; one that is down while others run answers its
        calls with `ServiceDown`.
        """
        if self._state != "new":
            raise NotRunning(f"this orchestrator is {self._state}: it can be started once")
        self._state = "running"
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        self._tree = self._plant()
        try:
            self._guard.start()
            await self._templates.start()
            if self._state == "running":  # it may have been stopped meanwhile
                self._tree.start()
                await self._tree.settled
        except BaseException:
            await self.stop("the start was interrupted")
            raise
        if self._state != "running":  # it was stopped meanwhile
            return
        services = [service.status() for service in self._services.values()]
        if self._tree.root.is_ending or (services and all(status["state"] == "down" for status in services)):
            told = "\n".join(f"  {n}: {status['reason']}" for n, status in zip(self._services, services, strict=True))
            told = told or f"  {self._tree.root.epitaph}"
            await self.stop("no service could be started")
            raise StartFailed(f"no service could be started:\n{told}")

    def _plant(self) -> SupervisionTree:
        from mlports.tree import plan

        config, directory, memory = self.config, self.config.directory, MemoryWatcher()
        # One more of each service, because one that is recycled has two processes for a moment.
        allow_processes(sum(s.replicas + s.standby + 1 for s in config.service.values()) + len(config.program))
        calls = self._calls_of_workers = CallsOfWorkers(self._call_for_worker, self._services)
        if any(service.record is not None for service in config.service.values()):
            from mlports.runtime.recording import Recordings

            self._recordings = Recordings(self.state_dir / "recordings", self._events)
        shared = (calls, self._quarantine, self._guard, memory, self._segments, self._recordings)
        for name, service in config.service.items():
            self._services[name] = Service(name, service, directory, self._events, *shared)
            self._services[name].preload(self._templates)
        for name, service in config.service.items():
            # A shadow is left out where only some of the services are run.
            if service.shadow is not None and service.shadow.service in self._services:
                self._services[name].copy_to(self._services[service.shadow.service], service.shadow)
        for name, pipeline in config.pipeline.items():
            self._pipelines[name] = self._pipelines[f"{name}.run"] = Pipeline(name, pipeline, self._services)
        branches = plan(config)
        return SupervisionTree(branches, self._services, config.program, self._events, directory, self._guard)

    async def stop(self, reason: str = "the orchestrator stops") -> None:
        """Stops the services in reverse order. Calls that a worker is at may finish; those that wait fail."""
        if self._state == "running":
            self._state = "stopping"
            assert self._stopped is not None
            self._events.emit("stopping", text=reason)
            try:
                if self._tree is not None:
                    await self._tree.stop(reason)
            finally:
                if self._recordings is not None:
                    await self._recordings.close()
                if self._calls_of_workers is not None:
                    self._calls_of_workers.close()
                if self._segments is not None:
                    self._segments.close()
                try:
                    await self._templates.stop()
                finally:
                    await self._guard.stop()
                self._state = "stopped"
                self._events.close()
                if not self._stopped.done():
                    self._stopped.set_result(None)
        elif self._state == "stopping":
            await self.wait_stopped()

    async def wait_stopped(self) -> None:
        """Returns when the orchestrator has been stopped."""
        if self._stopped is not None:
            await asyncio.shield(self._stopped)

    async def __aenter__(self) -> Orchestrator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- calling

    def call(
        self, target: str, /, *params: Any, timeout: Timeout = CONFIGURED, **options: Unpack[InputOptions]
    ) -> asyncio.Future[Any]:
        """Calls a method: a future of its result, to be awaited; cancelling it cancels the call.

        The options are those of `InputOptions`. The future fails with a `CallError`: `WorkerError` when the handler
        raised, `WorkerCrashed`, `PoisonRequest`, `DeadlineExceeded`, `Overloaded`, `CircuitOpen`, `ServiceDown`,
        `UnknownService`, `UnknownMethod`, `InvalidArgument`. That of a pipeline says which stage failed.
        """
        found = self._routes.get(target)
        if found is not None and not options:
            _, method, make, own = found
            return make(method, params, own if timeout is CONFIGURED else timeout)
        if found is None and target in self._pipelines:
            return self._call_pipeline(target, params, timeout, _special(options) if options else None)
        try:
            service, method, _, _ = found or self._find(target)
        except CallError as error:
            _discard(options)
            return self._failed(error)
        seconds: Any = service.config.timeout if timeout is CONFIGURED else timeout
        if options:
            return _begin(service, method, params, seconds, _special(options))
        return service.dispatcher.call(method, params, seconds)

    async def map(
        self,
        target: str,
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        timeout: Timeout = CONFIGURED,
        return_exceptions: bool = False,
        first: int = 1,
        **options: Unpack[CallOptions],
    ) -> list[Any]:
        """The method's result for each item, in order. The items travel in batches, a bounded number at a time.

        The items may be any iterable, also an endless reader of a file: they are taken as they are needed. The first
        item that fails ends the map with its error, or stands in the list in the result's place with
        `return_exceptions`. `timeout` is for each batch; of a pipeline, for each item. `first`: items of the first
        batch, from which the size of the others finds itself; a pipeline's items travel each by itself. The options
        are those of `CallOptions`; a `key` is for all. Raises `ValueError` for a `first` below 1.
        """
        size = ChunkSize(first)
        if target in self._pipelines:
            pipeline, own = self._pipelines[target], isinstance(timeout, _Configured)
            limit = pipeline.config.timeout if isinstance(timeout, _Configured) else timeout
            return await pipeline.map(items, limit, return_exceptions, options, of_stages=own)
        service, method, _, _ = self._routes.get(target) or self._find(target)
        seconds = service.config.timeout if isinstance(timeout, _Configured) else timeout
        return await map_calls(service, method, items, seconds, return_exceptions, size, options)

    def stream(
        self, target: str, /, *params: Any, timeout: float | None = None, **options: Unpack[InputOptions]
    ) -> Stream:
        """The items of a streaming method, to be iterated with `async for`; no timeout unless one is given.

        Of a pipeline, those of its last stage. Raises, while it is iterated, what `call` would.
        """
        if target in self._pipelines:
            told = PipelineItems()
            return Stream(told, self._pipelines[target].call(params, timeout, _special(options, told)))
        items = StreamItems()
        try:
            service, method, _, _ = self._routes.get(target) or self._find(target)
        except CallError as error:
            _discard(options)
            items.fail(error)
            return Stream(items, None)
        return Stream(items, _begin(service, method, params, timeout, _special(options, items)))

    def cast(self, target: str, /, *params: Any) -> None:
        """Sends a message that nobody answers: it is not retried, and lost with a worker that dies.

        Raises the `CallError` that is known at once, such as `UnknownMethod` or `ServiceDown`.
        """
        if target in self._pipelines:
            name = self._pipelines[target].name
            text = f"{name} is a pipeline, to which nothing can be cast: its stages need each other's results. Call it"
            raise UnknownMethod(text, service=name, method="run")
        service, method, _, _ = self._routes.get(target) or self._find(target)
        call = service.dispatcher.call(method, params, None, Special(cast=True))
        if call.done():
            call.result()

    # -- looking on

    def status(self) -> dict[str, Any]:
        """What there is, as plain values: state, pid, and for each service its replicas, queue and counts, …"""
        programs = self._tree.programs if self._tree is not None else {}
        return {
            "state": self._state,
            "pid": os.getpid(),
            "config": str(self.config.path) if self.config.path else None,
            "services": {name: service.status() for name, service in self._services.items()},
            "quarantine": self._quarantine.listing(),
            "programs": {name: program.status() for name, program in programs.items()},
            "pipelines": {pipeline.name: pipeline.status() for pipeline in self._pipelines.values()},
        }

    def methods(self) -> dict[str, MethodInfo] | None:
        """Every target and what its worker says of it; None when a service did not tell its methods: any may be called.

        A pipeline NAME is the target "NAME.run". A service that is down, or whose workers are bare, does not tell.
        """
        found: dict[str, MethodInfo] = {}
        for name, service in self._services.items():
            if service.dispatcher.methods is None:
                return None
            found.update({f"{name}.{method}": info for method, info in service.dispatcher.methods.items()})
        for name, pipeline in self.config.pipeline.items():
            first, last = (found.get(pipeline.stages[end], MethodInfo()) for end in (0, -1))
            found[f"{name}.run"] = MethodInfo(stream=last.stream, input=first.input)
        return found

    def release(self, digest: str | None = None) -> list[str]:
        """Allows calls again that are in quarantine because they kill workers: all, or the one of this digest.

        A digest is in hex, and may be cut short. Gives the digests of those that were released, which `status()` has
        as "quarantine". Raises `LookupError` where it is that of none, or of several.
        """
        if digest is None:
            released = [each["digest"] for each in self._quarantine.listing()]
            self._quarantine.release_all()
        else:
            released = [held.digest for held in self._quarantine.release(digest)]
        for service in self._services.values():
            service.dispatcher.look_closer()
        if released:
            self._events.emit("released", text=f"allowed again: {', '.join(each[:12] for each in released)}")
        return released

    def supervisor(self, name: str = "mlports") -> SupervisorHandle:
        """A supervisor, to ask about its children and to start and stop them; without a name, the root.

        Raises `NotRunning` when the orchestrator is not, and `KeyError` when there is no such supervisor.
        """
        if self._tree is None or self._state != "running":
            raise NotRunning(f"this orchestrator is {self._state}; ask it inside its `async with`, or after start()")
        if name not in self._tree.branches:
            raise KeyError(f"there is no supervisor {name!r}; there are: {', '.join(self._tree.branches)}")
        return SupervisorHandle(self._tree, name)

    def events(self, recent: bool = False) -> AsyncIterator[Event]:
        """What happens from now on (with `recent`, the last 1,000 events first): deaths with their verdicts, logs, …

        It ends when the orchestrator has stopped.
        """
        return self._events.follow(recent)

    @property
    def event_log(self) -> EventLog:
        """Where events can be listened for without an event loop's help."""
        return self._events

    @property
    def state_dir(self) -> Path:
        """Where a running orchestrator keeps its socket: as configured, else `.mlports` beside the configuration."""
        own = self.config.orchestrator.state_dir
        return self.config.directory / (own if own is not None else ".mlports")

    def _find(self, target: str) -> _Route:
        if self._state != "running":
            raise NotRunning(f"this orchestrator is {self._state}; call it inside its `async with`, or after start()")
        name, dot, method = target.rpartition(".")
        if not dot or not name or not method:
            text = f"{target!r} is no target: say service.method"
            if self._pipelines:
                text += f", or the name of a pipeline: {', '.join(sorted(self.config.pipeline))}"
            raise UnknownService(text, service=target)
        service = self._services.get(name)
        if service is None and name in self._pipelines:
            text = f"{name} is a pipeline, which has no method {method!r}: call it by its name alone"
            raise UnknownMethod(text, service=name, method=method)
        if service is None:
            known = ", ".join(sorted((*self._services, *self.config.pipeline)))
            raise UnknownService(f"there is no service {name!r}; there are: {known}", service=name, method=method)
        route = (service, method, service.dispatcher.call, service.config.timeout)
        # Bounded, because methods of bare workers are whatever callers name.
        if len(self._routes) < 10_000:
            self._routes[target] = route
        return route

    def _call_for_worker(
        self, target: str, params: list[Any], timeout: float | None, special: Special | None
    ) -> asyncio.Future[Any]:
        if target in self._pipelines:
            return self._call_pipeline(target, params, CONFIGURED if timeout is None else timeout, special)
        try:
            service, method, _, _ = self._routes.get(target) or self._find(target)
        except (CallError, NotRunning) as error:
            return self._failed(error)
        seconds = service.config.timeout if timeout is None else timeout
        return service.dispatcher.call(method, params, seconds, special)

    def _call_pipeline(
        self, target: str, params: Sequence[Any], timeout: Timeout, special: Special | None
    ) -> asyncio.Future[Any]:
        pipeline = self._pipelines[target]
        if isinstance(timeout, _Configured):
            return pipeline.call(params, pipeline.config.timeout, special, of_stages=True)
        return pipeline.call(params, timeout, special)

    def _failed(self, error: Exception) -> asyncio.Future[Any]:
        assert self._loop is not None  # there is one before any error can be told from `NotRunning`
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_exception(error)
        return future


def _special(options: InputOptions, items: StreamItems | None = None) -> Special:
    plain: dict[str, Any] = {**options}
    given = plain.pop("input", None)
    return Special(stream=items, input=None if given is None else InputFeed(given), **plain)


def _discard(options: InputOptions) -> None:
    """Closes the iterator of a streamed argument that is not wanted."""
    given = options.get("input")
    if given is not None:
        InputFeed(given).discard()


def _begin(service: Service, method: str, params: Sequence[Any], timeout: float | None, special: Special) -> Call:
    call = service.dispatcher.call(method, params, timeout, special)
    if special.input is not None:
        special.input.belong_to(call)
    return call
