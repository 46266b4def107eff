"""What a port stands between: the process that it needs, and the owner that it reports to."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlports.core.verdict import Verdict
from mlports_protocol import Answered, InputCreditGiven, Item, Progressed, Request

if TYPE_CHECKING:
    from mlports.runtime.port import Port


class Running(Protocol):
    """What a port needs of its worker's process, and what stands in for one: see `Process`."""

    pid: int
    status: int | None

    @property
    def ended(self) -> bool: ...

    write_fd: int
    read_fd: int
    stderr_tail: deque[str]
    peak_memory: int | None

    def signal_group(self, number: signal.Signals) -> None: ...

    def signal(self, number: signal.Signals) -> None: ...

    def close_write(self) -> None: ...

    def close_read(self) -> None: ...

    def widen(self, descriptor: int) -> None: ...


class PortOwner(Protocol):
    """Who a port reports to."""

    def on_greeted(self, port: Port) -> None:
        """The worker answered hello. It is the owner who says, by `come_up()`, that this is all that it waits for."""

    def on_answered(self, port: Port, answer: Answered, now: float) -> None:
        """A request was answered; `answer.tag` is what it was sent with."""

    def on_item(self, port: Port, item: Item) -> None:
        """An item of a streamed answer arrived."""

    def on_input_credit(self, port: Port, given: InputCreditGiven) -> None:
        """A worker takes more items of a request's streamed argument."""

    def on_request(self, port: Port, request: Request) -> None:
        """The worker calls a service."""

    def on_progress(self, port: Port, progress: Progressed) -> None:
        """A request of ours has come this far."""

    def on_log(self, port: Port, level: str, text: str, fields: Mapping[str, Any]) -> None:
        """The worker logged something; its stderr comes with the level "stderr"."""

    def on_room(self, port: Port) -> None:
        """The port can take requests that it could not take a moment ago."""

    def on_dead(self, port: Port, verdict: Verdict, unanswered: Sequence[Any]) -> None:
        """The worker is gone. `unanswered` are the tags of the requests that it never answered, oldest first."""
