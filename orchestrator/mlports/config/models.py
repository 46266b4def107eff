"""The tables of mlports.toml: their keys, what these may be, and what they are where they are not given."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mlports.config import family, references, values
from mlports.config.calls import BatchConfig, BreakerConfig, HedgeConfig, PipelineConfig, ShadowConfig
from mlports.config.table import Table
from mlports.core.python_command import python_command
from mlports.core.supervision.specs import AutoShutdown, RestartType, Strategy
from mlports_protocol import DEFAULT_MAX_FRAME

Level = Literal["debug", "info", "warning", "error"]
Restart = RestartType
Transport = Literal["stdio", "fd34", "inline"]
Route = Literal["least_loaded", "round_robin", "hash", "broadcast"]

_Path = Annotated[Path, BeforeValidator(values.path)]
_Duration = Annotated[float, PlainValidator(values.duration)]
_Limit = Annotated[float | None, PlainValidator(values.limit)]
_Shutdown = Annotated[float | Literal["brutal_kill", "infinity"], PlainValidator(values.shutdown)]
_Command = Annotated[list[str], BeforeValidator(values.words), AfterValidator(values.command)]
_Python = Annotated[str, BeforeValidator(values.file_name)]
_Environment = Annotated[dict[str, str], AfterValidator(values.environment)]
_Count = Annotated[int, Field(ge=0)]
_ServiceName = Annotated[str, AfterValidator(partial(values.name, kind="service"))]
_ProgramName = Annotated[str, AfterValidator(partial(values.name, kind="program"))]
_PipelineName = Annotated[str, AfterValidator(partial(values.name, kind="pipeline"))]


def _supervisor_name(name: str) -> str:
    # In the file the name stands among the root's keys.
    if name in SupervisorConfig.model_fields:
        raise reserved(name)
    return values.name(name, kind="supervisor")


def reserved(name: str) -> PydanticCustomError:
    """What is wrong with a supervisor's name that is a key of [supervisor] too."""
    return values.wrong(
        f"{name} is a key of [supervisor], so no supervisor can be called that", f"call it [supervisor.{name}-1]"
    )


_SupervisorName = Annotated[str, AfterValidator(_supervisor_name)]


# What the models take is wider than what they hold ("5s" becomes 5.0), which the constructors' types say.
class OrchestratorConfig(Table):
    """The table [orchestrator].

    state_dir: where the control socket lives; relative to `Config.directory`; None for the default place.
    log: the least level that is logged.
    """

    state_dir: _Path | None = None
    log: Level = "info"

    if TYPE_CHECKING:

        def __init__(self, *, state_dir: str | Path | None = None, log: Level = "info") -> None: ...


class BackoffConfig(Table):
    """A table `backoff`: how long to wait before a child is started again that ended by itself.

    initial: the first wait, and factor: how much longer each one is than the one before. max: the longest. jitter: the
    share, from 0 to 1, up to which a wait is cut short by chance. reset: after a life as long as this the next wait is
    `initial` again. Durations are held in seconds.
    """

    initial: _Duration = 0.1
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    max: _Duration = 30.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.1
    reset: _Duration = 60.0

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            initial: float | str = 0.1,
            factor: float = 2.0,
            max: float | str = 30.0,
            jitter: float = 0.1,
            reset: float | str = 60.0,
        ) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> BackoffConfig:
        if self.max < self.initial:
            problem = f"is shorter than the first wait, {self.initial:g} s"
            raise values.wrong(problem, "make max at least as long as initial", "max")
        return self


class HeartbeatConfig(Table):
    """A table `heartbeat`: how long a worker may be silent.

    interval: after so many seconds without a word from it, it is asked whether it is there. timeout: when it says
    nothing for so many more, it is killed as hung.
    """

    interval: _Duration = 5.0
    timeout: _Duration = 15.0

    if TYPE_CHECKING:

        def __init__(self, *, interval: float | str = 5.0, timeout: float | str = 15.0) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> HeartbeatConfig:
        if self.timeout < self.interval:
            problem = f"is shorter than the interval, {self.interval:g} s"
            raise values.wrong(problem, "make timeout at least as long as interval", "timeout")
        return self


class RecordConfig(Table):
    """A table `record`: what is kept of a worker's last messages, to be written to a file when it has died.

    when: "on-crash" for deaths that are not normal, "always" for stops too. frames, bytes: at most so many of the last,
    1 to 1000000, and so much of them, 1 KiB to 1 GiB. keep: so many files of the service are kept, 1 to 1000. redact:
    whether values are replaced by stand-ins; or those of which methods, as "METHOD" or "METHOD.KEY".
    """

    when: Literal["on-crash", "always"] = "on-crash"
    frames: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    bytes: Annotated[int, PlainValidator(values.recording_size)] = 16 * 2**20
    keep: Annotated[int, Field(ge=1, le=1000)] = 10
    redact: Annotated[bool | list[str], PlainValidator(values.redactions)] = False

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            when: Literal["on-crash", "always"] = "on-crash",
            frames: int = 1000,
            bytes: int | str = 16 * 2**20,
            keep: int = 10,
            redact: bool | list[str] | tuple[str, ...] = False,
        ) -> None: ...


class WarmUpConfig(Table):
    """A call that a worker has to answer before it is up: one table of the array `warm_up`."""

    method: Annotated[str, AfterValidator(values.method)]
    params: Annotated[list[Any], BeforeValidator(values.array), AfterValidator(values.sendable)] = Field(
        default_factory=list
    )

    if TYPE_CHECKING:

        def __init__(self, *, method: str, params: list[Any] | tuple[Any, ...] = ...) -> None: ...


class SupervisorConfig(Table):
    """The table [supervisor], the root, or a table [supervisor.NAME], a supervisor below it.

    It gives up at more than `intensity` restarts within `period` seconds. children: the names of services, programs and
    supervisors, in the order of their start. parallel_start: whether it waits for none of them to be up before it
    starts the next; None leaves it to the strategy, see `starts_together`. backoff: for those children that have none
    of their own; None for none.

    restart, shutdown, significant: what its own supervisor does about it; not for the root, which has none.
    """

    strategy: Strategy = "one_for_one"
    intensity: _Count = 5
    period: Annotated[int, PlainValidator(values.period)] = 10
    auto_shutdown: AutoShutdown = "never"
    children: Annotated[list[str], BeforeValidator(values.array)] = Field(default_factory=list)
    parallel_start: bool | None = None
    backoff: BackoffConfig | None = None
    restart: Restart = "permanent"
    shutdown: _Shutdown = "infinity"
    significant: bool = False

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            strategy: Strategy = "one_for_one",
            intensity: int = 5,
            period: float | str = 10,
            auto_shutdown: AutoShutdown = "never",
            children: list[str] | tuple[str, ...] = ...,
            parallel_start: bool | None = None,
            backoff: BackoffConfig | None = None,
            restart: Restart = "permanent",
            shutdown: float | str = "infinity",
            significant: bool = False,
        ) -> None: ...

    @property
    def starts_together(self) -> bool:
        """`parallel_start`, or what it is where it is not given: whether the strategy knows no order."""
        if self.parallel_start is None:
            return self.strategy in ("one_for_one", "simple_one_for_one")
        return self.parallel_start

    @model_validator(mode="after")
    def _check(self) -> SupervisorConfig:
        if self.parallel_start and self.strategy in ("one_for_all", "rest_for_one"):
            problem = f"a {self.strategy} starts its children one after the other: their order is a promise"
            raise values.wrong(problem, "remove parallel_start, or write false", "parallel_start")
        return self


class ServiceConfig(Table):
    """A table [service.NAME]: a program, how many of it, and how it is treated.

    Durations are held in seconds and may be given as "500ms", "5s", "2m", "1h" or as numbers of seconds; sizes are held
    in bytes and may be given as "64KiB", "10MB", "2GiB" or as numbers of bytes.

    command: the program and its arguments; one text is split as a shell would. python: the environment or interpreter
    that "python" in it means; None for the orchestrator's own. replicas: 1 to 1000. standby: so many more are up, to
    take the place of those that die; 0 to 1000. restart, shutdown, significant: OTP's. backoff: None for the
    supervisor's. start_timeout: the longest that a worker may take to be ready. warm_up: the calls that it has to
    answer before it is. heartbeat: None for none. grace: how long a worker may go on with a call that was cancelled or
    is past its time, before it is killed as hung; None, or "infinity", for ever. memory_limit, max_requests, max_age: a
    worker that is larger, has answered more or is older is replaced; None for no limit. preload: modules that a
    template process imports once, to fork the workers; for Python programs only. record: what is kept of the last
    messages; "on-crash" and "always" stand for a table with this `when`; None for nothing. transport: "inline" runs a
    Python worker's handlers within the orchestrator, which leaves some of the keys without a meaning; they are refused.

    route: which replica gets a call. key: with "hash", the place of the argument, from 0, that decides it. weights: a
    number for each replica, how much of the calls it gets; 0, or 0.001 to 1000000. shadow: a service that is sent the
    same; None for none. queue: calls that may wait. concurrency: the most calls that the workers have in their hands,
    all together; "auto" finds it while it runs, None for no limit. batch: None for one call at a time, but for `map`.
    timeout: that of a call which has none of its own; None, or "infinity", for no limit. retries: how often an
    idempotent call is sent again. retry_budget: within 10 s at most 256 retries and this share of the calls; None, or
    "infinity", for no limit. breaker, hedge: None for none.

    max_frame: 1 to 2**31-1. shared_memory: whether large arrays travel in it, where the worker can. cwd: relative to
    `Config.directory`. env: added to the orchestrator's own environment. config: handed to the worker; anything that
    MessagePack can carry, so no dates or times without an offset.

    Raises pydantic's `ValidationError`, a ValueError.
    """

    command: _Command
    python: _Python | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    standby: Annotated[int, Field(ge=0, le=1000)] = 0
    restart: Restart = "permanent"
    shutdown: _Shutdown = 5.0
    significant: bool = False
    backoff: BackoffConfig | None = None
    start_timeout: _Duration = 30.0
    warm_up: Annotated[list[WarmUpConfig], BeforeValidator(values.array)] = Field(default_factory=list)
    heartbeat: HeartbeatConfig | None = None
    grace: _Limit = 5.0
    memory_limit: Annotated[int, PlainValidator(values.memory_size)] | None = None
    max_requests: Annotated[int, Field(ge=1)] | None = None
    max_age: Annotated[float, PlainValidator(values.age)] | None = None
    preload: Annotated[list[str], BeforeValidator(values.array), AfterValidator(values.modules)] = Field(
        default_factory=list
    )
    record: Annotated[RecordConfig | None, BeforeValidator(values.record)] = None
    transport: Transport = "stdio"
    route: Route = "least_loaded"
    key: _Count | None = None
    weights: Annotated[list[float], BeforeValidator(values.array), AfterValidator(values.weights)] | None = None
    shadow: ShadowConfig | None = None
    queue: _Count = 1024
    concurrency: Annotated[int | Literal["auto"], PlainValidator(values.concurrency)] | None = None
    batch: BatchConfig | None = None
    timeout: _Limit = 30.0
    retries: _Count = 2
    retry_budget: Annotated[float | None, PlainValidator(values.budget)] = 0.5
    breaker: BreakerConfig | None = None
    hedge: HedgeConfig | None = None
    max_frame: Annotated[int, PlainValidator(values.frame_size)] = DEFAULT_MAX_FRAME
    shared_memory: bool = True
    cwd: _Path = Path(".")
    env: _Environment = Field(default_factory=dict)
    config: Annotated[dict[str, Any], AfterValidator(values.sendable)] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            command: str | list[str] | tuple[str, ...],
            python: str | None = None,
            replicas: int = 1,
            standby: int = 0,
            restart: Restart = "permanent",
            shutdown: float | str = 5.0,
            significant: bool = False,
            backoff: BackoffConfig | None = None,
            start_timeout: float | str = 30.0,
            warm_up: list[WarmUpConfig] | tuple[WarmUpConfig, ...] = ...,
            heartbeat: HeartbeatConfig | None = None,
            grace: float | str | None = 5.0,
            memory_limit: int | str | None = None,
            max_requests: int | None = None,
            max_age: float | str | None = None,
            preload: list[str] | tuple[str, ...] = ...,
            record: RecordConfig | Literal["on-crash", "always"] | None = None,
            transport: Transport = "stdio",
            route: Route = "least_loaded",
            key: int | None = None,
            weights: list[float] | tuple[float, ...] | None = None,
            shadow: ShadowConfig | None = None,
            queue: int = 1024,
            concurrency: int | Literal["auto"] | None = None,
            batch: BatchConfig | None = None,
            timeout: float | str | None = 30.0,
            retries: int = 2,
            retry_budget: float | str | None = 0.5,
            breaker: BreakerConfig | None = None,
            hedge: HedgeConfig | None = None,
            max_frame: int | str = DEFAULT_MAX_FRAME,
            shared_memory: bool = True,
            cwd: str | Path = ".",
            env: dict[str, str] = ...,
            config: dict[str, Any] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> ServiceConfig:
        if self.key is not None and self.route != "hash":
            problem = f'means nothing with route = "{self.route}"'
            raise values.wrong(problem, 'write route = "hash", or remove key', "key")
        if self.hedge is not None and self.route in ("hash", "broadcast"):
            problem = f'means nothing with route = "{self.route}": no other replica may answer in the place of one'
            raise values.wrong(problem, "remove hedge, or choose another route", "hedge")
        if self.weights is not None:
            if self.route == "broadcast":
                problem = 'means nothing with route = "broadcast", where every replica gets every call'
                raise values.wrong(problem, "remove weights", "weights")
            values.weights_count(self.weights, self.replicas, self.standby)
        if self.transport == "inline":
            values.inline(self.command, {key: getattr(self, key) for key in self.model_fields_set})
        if self.preload and python_command(self.command) is None:
            problem = f"is for Python programs, and the command {values.shown(' '.join(self.command))} runs none"
            fix = 'remove preload, or write the command as ["python", "script.py"] or ["python", "-m", "module"]'
            raise values.wrong(problem, fix, "preload")
        return self


class ProgramConfig(Table):
    """A table [program.NAME]: any program that is to run, and speaks no protocol. It is up as soon as it runs.

    The keys are those of a service.
    """

    command: _Command
    python: _Python | None = None
    restart: Restart = "permanent"
    shutdown: _Shutdown = 5.0
    significant: bool = False
    backoff: BackoffConfig | None = None
    cwd: _Path = Path(".")
    env: _Environment = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            command: str | list[str] | tuple[str, ...],
            python: str | None = None,
            restart: Restart = "permanent",
            shutdown: float | str = 5.0,
            significant: bool = False,
            backoff: BackoffConfig | None = None,
            cwd: str | Path = ".",
            env: dict[str, str] = ...,
        ) -> None: ...


class Config(Table):
    """A whole file.

    supervisor: the root. supervisors: those below it, which the file has as [supervisor.NAME]. path: the file, in full;
    None if made in Python. directory: what relative paths in it are meant from: the file's folder, or the current
    directory if made in Python.
    """

    orchestrator: OrchestratorConfig = Field(default_factory=OrchestratorConfig)
    supervisor: SupervisorConfig = Field(default_factory=SupervisorConfig)
    supervisors: dict[_SupervisorName, SupervisorConfig] = Field(default_factory=dict)
    service: dict[_ServiceName, ServiceConfig] = Field(default_factory=dict)
    program: dict[_ProgramName, ProgramConfig] = Field(default_factory=dict)
    pipeline: dict[_PipelineName, PipelineConfig] = Field(default_factory=dict)
    path: _Path | None = None
    directory: _Path = Field(default_factory=Path.cwd)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            orchestrator: OrchestratorConfig = ...,
            supervisor: SupervisorConfig = ...,
            supervisors: dict[str, SupervisorConfig] = ...,
            service: dict[str, ServiceConfig] = ...,
            program: dict[str, ProgramConfig] = ...,
            pipeline: dict[str, PipelineConfig] = ...,
            path: str | Path | None = None,
            directory: str | Path = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> Config:
        found = [*family.problems(self), *references.problems(self)]
        if found:
            errors = [InitErrorDetails(type=values.wrong(p.problem, p.fix), loc=p.key, input=p.value) for p in found]
            raise ValidationError.from_exception_data("Config", errors)
        return self
