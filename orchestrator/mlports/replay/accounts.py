"""What a worker may send while a recording is played to it, and what it has sent: the protocol's rules, for raw frames.

Ids are those of the recording, so they do not count up as a session's do.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from mlports_protocol import (
    AnsweredTwice,
    CreditExceeded,
    DuplicateId,
    HandshakeExpected,
    Message,
    Notification,
    RemoteProtocolError,
    Request,
    Response,
    UnknownId,
)
from mlports_protocol.control import parse_hello_answer, take_grant, take_item


def request_in(message: Notification) -> int:
    """The request that a notification of the protocol's own is about; -1 if it names none."""
    return message.params[0] if message.params and type(message.params[0]) is int else -1


class Accounts:
    """The requests made of a worker and its own. `take` raises a `RemoteProtocolError` for what breaks the rules."""

    def __init__(self) -> None:
        self.greeting: Response | None = None
        self.answers: dict[int, Response] = {}
        self.items: dict[int, list[Any]] = {}
        self.input_credit: Counter[int] = Counter()
        self.open: dict[int, Request] = {}  # not answered
        self.theirs: set[int] = set()  # the worker's own that are not answered
        self._credit: Counter[int] = Counter()
        self._input_open: set[int] = set()

    def wrote(self, message: Message | None) -> None:
        """Says what was written to the worker."""
        if isinstance(message, Request):
            meta = message.meta or {}
            self.open[message.id] = message
            if type(meta.get("credit")) is int:
                self._credit[message.id] = meta["credit"]
            if meta.get("input"):
                self._input_open.add(message.id)
        elif isinstance(message, Notification) and message.method == "$/credit":
            with suppress(RemoteProtocolError):  # it is the recording's, and the worker may say what it thinks of it
                number, count = take_grant(message.method, message.params)
                self._credit[number] += count
        elif isinstance(message, Notification) and message.method == "$/input_end":
            self._input_open.discard(request_in(message))

    def take(self, message: Message) -> Request | None:
        """Books what the worker sent; gives a request of its own, which is to be answered."""
        if isinstance(message, Response):
            self._answer(message)
            return None
        quiet = isinstance(message, Notification) and message.method in ("$/log", "$/progress")
        if self.greeting is None and not quiet:
            raise HandshakeExpected(f"{message.method} before the handshake was done")
        if isinstance(message, Request):
            if message.id in self.theirs:
                raise DuplicateId(f"request id {message.id} is still in use by an earlier request")
            self.theirs.add(message.id)
            return message
        if message.method == "$/item":
            self._item(*take_item(message.method, message.params))
        elif message.method == "$/input_credit":
            number, count = take_grant(message.method, message.params)
            self.input_credit[number] += count
        return None

    @property
    def awaited(self) -> list[int]:
        """Requests that can still be answered: not those that wait for credit or input that was never recorded."""
        return [number for number in self.open if not self._starves(number) and number not in self._input_open]

    def _starves(self, number: int) -> bool:
        return number in self._credit and self._credit[number] <= len(self.items.get(number, ()))

    def _answer(self, message: Response) -> None:
        if message.id not in self.open:
            twice = message.id in self.answers or (self.greeting is not None and message.id == self.greeting.id)
            raise (AnsweredTwice if twice else UnknownId)(f"an answer to request {message.id}, which is not open")
        request = self.open.pop(message.id)
        if request.method == "$/hello":
            if message.error is None:
                parse_hello_answer(message.result)
            self.greeting = message
        else:
            self.answers[message.id] = message

    def _item(self, number: int, value: Any) -> None:
        if number not in self.open:
            error = AnsweredTwice if number in self.answers else UnknownId
            raise error(f"an item for request {number}, which is not open")
        if self._starves(number) or number not in self._credit:
            raise CreditExceeded(f"an item for request {number} beyond the credit given")
        self.items.setdefault(number, []).append(value)
