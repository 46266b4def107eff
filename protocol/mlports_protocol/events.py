"""What a session's `next_event()` gives: the messages of a peer, by what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

from .framing import DEFAULT_MAX_FRAME
from .messages import Notification, Request

VERSION = 1
FEATURES = frozenset(["ping", "cancel", "stream", "input", "batch", "columns", "ndarray", "shm", "arrow", "stacks"])
IMPLEMENTED = FEATURES - {"shm", "arrow", "stacks"}  # by this package alone: shm needs a `SharedMemory` as well


class MethodInfo(NamedTuple):
    """What a worker says of one of its methods."""

    batch: bool = False
    stream: bool = False
    idempotent: bool = False
    input: bool = False


@dataclass(frozen=True)
class Peer:
    """What the other end said of itself. A *bare* worker said nothing, and claims nothing."""

    name: str = ""
    language: str = ""
    sdk: str = ""
    protocol: int = VERSION
    max_frame: int = DEFAULT_MAX_FRAME
    features: frozenset[str] = frozenset()
    methods: dict[str, MethodInfo] | None = None
    concurrency: int = 1
    bare: bool = False


class Probe(NamedTuple):
    """A segment that a worker has to be able to open, and what it begins with, if it is to have arrays shared."""

    segment: str
    token: bytes


@dataclass(frozen=True)
class Hello:
    """What the orchestrator tells a worker first."""

    service: str = ""
    replica: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    max_frame: int = DEFAULT_MAX_FRAME
    probe: Probe | None = None


class Greeted(NamedTuple):
    """The worker answered `$/hello`; the session is ready."""

    peer: Peer


class HelloAsked(NamedTuple):
    """The orchestrator's `$/hello`, to be answered by `answer_hello()`."""

    id: int
    hello: Hello


class Answered(NamedTuple):
    """The one answer to a request of ours. `tag` is what `request()` was given."""

    id: int
    tag: Any
    error: dict[str, Any] | None
    result: Any


class Item(NamedTuple):
    """One item of the streamed answer to a request of ours."""

    id: int
    tag: Any
    value: Any


class CancelAsked(NamedTuple):
    """The caller no longer wants the answer to this request of its; it is to be answered all the same."""

    id: int


class CreditGiven(NamedTuple):
    """`more` items may be sent for this request of the peer's. Session keeps the sum."""

    id: int
    more: int


class InputCreditGiven(NamedTuple):
    """`more` items of the streamed argument of this request of ours may be sent. Session keeps the sum."""

    id: int
    more: int


class InputItem(NamedTuple):
    """One item of a streamed argument."""

    id: int
    value: Any


class InputEnded(NamedTuple):
    """No more items of the streamed argument follow."""

    id: int


class Logged(NamedTuple):
    """A line for the log."""

    level: str
    text: str
    fields: dict[str, Any]


class Progressed(NamedTuple):
    """How far a request of ours has come; `total` may be unknown."""

    id: int
    done: float
    total: float | None
    text: str


class Released(NamedTuple):
    """The worker has no more use for a segment that an answer brought, or that it was given as room."""

    segment: str


class StopAsked(NamedTuple):
    """Finish what is open, answer it, and exit with status 0."""

    reason: str


Event = Union[
    Greeted,
    HelloAsked,
    Answered,
    Item,
    Request,
    Notification,
    CancelAsked,
    CreditGiven,
    InputCreditGiven,
    InputItem,
    InputEnded,
    Logged,
    Progressed,
    Released,
    StopAsked,
]
