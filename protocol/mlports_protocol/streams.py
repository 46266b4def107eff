"""The accounts of a connection's streams: how many items its open requests may still pass, each way."""

from __future__ import annotations

from .control import check_count
from .errors import InvalidMessage, shown
from .messages import Meta


class Account:
    """One stream's items: how many may pass in all, by the credit given so far, and how many did.

    Each number is written by one side alone, so that one thread may read while another sends.
    """

    __slots__ = ("granted", "passed")

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.passed = 0

    @property
    def left(self) -> int:
        """How many may pass now."""
        return self.granted - self.passed


class RequestStreams:
    """The accounts that one request asks for by its meta: of its answer's items, and of its streamed argument's.

    None is the account of what it does not stream, and of an argument that has ended.
    """

    __slots__ = ("input", "items")

    def __init__(self, meta: Meta) -> None:
        credit = meta.get("credit")
        self.items = None if credit is None else Account(credit)
        self.input = Account(0) if meta.get("input") else None


class OpenStreams(dict[int, RequestStreams]):
    """By id, the accounts of those open requests of one direction that stream anything."""

    __slots__ = ()

    def items_of(self, number: int) -> Account | None:
        """The account of a request's streamed answer; None for one without, or answered."""
        streams = self.get(number)
        return None if streams is None else streams.items

    def input_of(self, number: int) -> Account | None:
        """The account of a request's streamed argument; None for one without, ended or answered."""
        streams = self.get(number)
        return None if streams is None else streams.input

    def end_input(self, number: int) -> bool:
        """Closes the account of a request's streamed argument. Returns whether there was one."""
        streams = self.get(number)
        if streams is None or streams.input is None:
            return False
        streams.input = None
        return True


def check_streams(meta: Meta, features: frozenset[str]) -> None:
    """Raises `InvalidMessage` for a meta `credit` or `input`, as received, that is wrong or was not negotiated."""
    credit = meta.get("credit")
    if credit is not None:
        if "stream" not in features:
            raise InvalidMessage("meta credit asks for a stream, which was not negotiated")
        check_count("meta credit", credit, 0)
    streamed = meta.get("input")
    if streamed is not None and type(streamed) is not bool:
        raise InvalidMessage(f"meta input is a boolean, not {shown(streamed)}")
    if streamed and "input" not in features:
        raise InvalidMessage("meta input announces a streamed argument, which was not negotiated")
