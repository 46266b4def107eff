"""The tables that say how calls travel: in batches, twice, past a worker that fails, and through several services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from mlports.config import values
from mlports.config.table import Table

_Share = Annotated[float, Field(ge=0, le=1)]
_Duration = Annotated[float, PlainValidator(values.duration)]


class ShadowConfig(Table):
    """A table `shadow`: another service, which is sent copies of the calls; its answers are compared, and not used.

    service: its name. share: of the calls, from 0 to 1. tolerance: how far two numbers may be apart and count as equal.
    """

    service: str
    share: _Share = 1.0
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    if TYPE_CHECKING:

        def __init__(self, *, service: str, share: float = 1.0, tolerance: float = 0.0) -> None: ...


class BatchConfig(Table):
    """A table `batch`: calls that are gathered, and sent to a worker as one.

    max_size: at most so many, 1 to 4096; "auto" finds it while it runs. max_wait: the longest, in seconds, that the
    first of them waits for others; 0 to 10. key: the place of the argument, from 0, that all calls of a batch have in
    common; None for no such argument.
    """

    max_size: Annotated[int | Literal["auto"], PlainValidator(values.batch_size)] = "auto"
    max_wait: Annotated[float, PlainValidator(values.batch_wait)] = 0.002
    key: Annotated[int, Field(ge=0)] | None = None

    if TYPE_CHECKING:

        def __init__(
            self, *, max_size: int | Literal["auto"] = "auto", max_wait: float | str = 0.002, key: int | None = None
        ) -> None: ...


class BreakerConfig(Table):
    """A table `breaker`: when so many calls fail that no more are sent for a while.

    failures: the share, above 0 and up to 1, of the last `of` calls, 2 to 10000. pause: in seconds, after which calls
    are tried again.
    """

    failures: Annotated[float, Field(gt=0, le=1)] = 0.5
    of: Annotated[int, Field(ge=2, le=10_000)] = 20
    pause: _Duration = 5.0

    if TYPE_CHECKING:

        def __init__(self, *, failures: float = 0.5, of: int = 20, pause: float | str = 5.0) -> None: ...


class HedgeConfig(Table):
    """A table `hedge`: an idempotent call that takes long is sent to a second worker; the first answer counts.

    after: seconds, or from "p50" to "p99.9": the share of the recent calls that were faster.
    """

    after: Annotated[float | str, PlainValidator(values.hedge_after)]

    if TYPE_CHECKING:

        def __init__(self, *, after: float | str) -> None: ...


class PipelineConfig(Table):
    """A table [pipeline.NAME]: services whose methods are called one after the other, each with the result before.

    stages: at least one "service.method". timeout: of the whole, in seconds, for a call that has none of its own; None,
    or "infinity", for no limit.
    """

    stages: Annotated[list[str], BeforeValidator(values.array), AfterValidator(values.stages)]
    timeout: Annotated[float | None, PlainValidator(values.limit)] = None

    if TYPE_CHECKING:

        def __init__(self, *, stages: list[str] | tuple[str, ...], timeout: float | str | None = None) -> None: ...
