"""What goes to and fro between two ends: the requests that are open in each direction, their streams and answers.

The rules (SPEC.md, sections on the handshake, requests and streams), the same for both ends:

    phase     may send                                  may receive
    new       orchestrator: `$/hello`                   worker: `$/hello`
    greeting  worker: its answer, `$/log`, `$/progress` orchestrator: the answer, `$/log`, `$/progress`
    ready     everything that was negotiated            everything
    broken    answers, to requests from before that     nothing: the peer broke the rules

    a request we made       open ── `$/item` within credit ──▶ open ── response ──▶ answered, once and for all
    a request made of us    open ── `$/item` within credit ──▶ open ── `answer` ──▶ answered, once and for all

A streamed argument is the same the other way round: `$/input` from the caller, within `$/input_credit`, up to
`$/input_end` or the answer.

Ids number each direction on its own. `feed()` takes what was read, `next_event()` gives what it means; everything
that sends returns buffers to be written in that order. No I/O, no clock.
"""

from __future__ import annotations

from typing import Any, Callable

from .codec import Buffer, Codec
from .control import PARSED, take_grant, take_id, take_item
from .errors import (
    AnsweredTwice,
    CreditExceeded,
    DuplicateId,
    HandshakeExpected,
    InvalidExtension,
    NotOutstanding,
    OversizedMessage,
    RemoteProtocolError,
    Unencodable,
    UnknownId,
    WrongState,
    shown,
)
from .events import (
    Answered,
    CancelAsked,
    CreditGiven,
    Event,
    InputCreditGiven,
    InputEnded,
    InputItem,
    Item,
    Progressed,
)
from .framing import DEFAULT_MAX_FRAME, FrameDecoder
from .messages import MAX_ID, Message, Meta, Notification, Request, Response
from .outgoing import check_call, check_error, check_grant
from .shared_memory import Place, SharedMemory
from .streams import OpenStreams, RequestStreams, check_streams


class Session:
    """What both ends have in common. Use `OrchestratorSession` or `WorkerSession`."""

    def __init__(self, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        self.decoder = FrameDecoder(max_frame)
        self.codec = Codec(ndarray=False)
        self.features: frozenset[str] = frozenset()
        self.phase = "new"
        self.frame_size = 0  # bytes of the frame that the latest event came in
        self._peer_max_frame = DEFAULT_MAX_FRAME
        self._next_id = 0
        self._asked: dict[int, Any] = {}  # requests of ours that are open -> the caller's tag
        self._asked_streams = OpenStreams()  # of those: items come, input goes
        self._open: set[int] = set()  # requests of the peer's that are open
        self._open_streams = OpenStreams()  # of those: items go, input comes
        self._fault: RemoteProtocolError | None = None
        self.memory: SharedMemory | None = None  # to be set before the handshake, where there is one
        self._lent: dict[int, list[Place]] = {}  # requests of ours that are open -> what they share
        self._borrowed: dict[int, list[tuple[str, Any]]] = {}  # those of the peer's -> what they brought

    # -- what we send as the caller

    def request(self, method: str, params: list[Any], meta: Meta | None = None, tag: Any = None) -> list[Buffer]:
        """A request; its answer comes as `Answered` with `tag`. Its id is `last_id`.

        With meta `credit` it asks for a stream, with meta `input` it announces a streamed argument. Raises
        `WrongState`, `Unencodable`, `OversizedMessage`; then no id was used.
        """
        self._must_be_ready("request", method)
        if type(params) is not list or type(method) is not str or not method or meta:
            check_call(method, params, meta, self.features)
        number = self._next_id
        if number > MAX_ID:
            raise WrongState("all 2^53 request ids of this connection are used up")
        buffers = self._encode(Request(number, method, params, meta))
        self._next_id = number + 1
        self._asked[number] = tag
        if self.codec.shared:
            self._lent[number] = self._take_shared()
        if meta and ("credit" in meta or "input" in meta):
            self._asked_streams[number] = RequestStreams(meta)
        return buffers

    @property
    def last_id(self) -> int:
        """The id of the latest request of ours; -1 before the first."""
        return self._next_id - 1

    @property
    def asked(self) -> dict[int, Any]:
        """The requests of ours that are open, and their tags. Not to be changed."""
        return self._asked

    def notify(self, method: str, params: list[Any]) -> list[Buffer]:
        """A notification: a cast when the method is a service's, else one of the protocol's.

        Those that the session keeps account of are sent as their own functions send them: `$/item` as `item()` does.
        """
        if type(params) is not list or type(method) is not str or not method:
            check_call(method, params, None, self.features)
        if method in _ACCOUNTED:
            return _ACCOUNTED[method](self, *params)
        if not (self.phase == "greeting" and method in ("$/log", "$/progress")):
            self._must_be_ready("notification", method)
        buffers = self._encode_alone(Notification(method, params))
        if method in PARSED:
            try:
                PARSED[method](self._as_received(buffers).params)  # type: ignore[union-attr]
            except RemoteProtocolError as reason:
                raise Unencodable(f"{method} cannot be sent: {reason}") from None
        return buffers

    def cancel(self, number: int) -> list[Buffer]:
        """Asks for an open request of ours to be given up; nothing once it is answered, or to a peer that cannot."""
        if number not in self._asked or "cancel" not in self.features:
            return []
        return self._control("$/cancel", number)

    def give_credit(self, number: int, count: int) -> list[Buffer]:
        """Lets the peer send `count` more items for a streamed request of ours; nothing once it is answered."""
        account = self._asked_streams.items_of(number)
        if account is None:
            return []
        check_grant(count)
        buffers = self._control("$/credit", number, count)
        account.granted += count
        return buffers

    def input_allowance(self, number: int) -> int | None:
        """How many items of a request's streamed argument may be sent now; None for one without, ended or answered."""
        account = self._asked_streams.input_of(number)
        return None if account is None else account.left

    @property
    def giving_input(self) -> bool:
        """Whether a request of ours is open whose streamed argument has not ended."""
        return any(streams.input is not None for streams in self._asked_streams.values())

    def input(self, number: int, value: Any) -> list[Buffer]:
        """One item of the streamed argument of a request of ours; nothing once that is answered.

        Raises `WrongState` without credit, and for an argument that was not announced or has ended.
        """
        if number not in self._asked:
            return []
        account = self._asked_streams.input_of(number)
        if account is None or account.granted <= account.passed:
            raise WrongState(f"no credit for another item of the streamed argument of request {number}")
        buffers = self._control("$/input", number, value)
        account.passed += 1
        return buffers

    def end_input(self, number: int) -> list[Buffer]:
        """Says that the streamed argument has no more items; nothing once it was said, or the request is answered."""
        if self._asked_streams.input_of(number) is None:
            return []
        buffers = self._control("$/input_end", number)
        self._asked_streams.end_input(number)
        return buffers

    # -- what we send as the callee

    @property
    def open(self) -> set[int]:
        """The requests of the peer's that are open. Not to be changed."""
        return self._open

    def answer(self, number: int, error: dict[str, Any] | None = None, result: Any = None) -> list[Buffer]:
        """The one answer to a request of the peer's.

        Raises `NotOutstanding` for a request that is not open (answered already, or never made). When the result
        cannot be sent (`Unencodable`, `OversizedMessage`) the request stays open, so that an error can be. An error is
        a map with code and message, and goes without a result; as the answer to `$/hello` it makes this a bare worker.
        """
        if number not in self._open:
            raise NotOutstanding(f"request {number} is not open: it was answered already, or never made")
        if error is not None:
            check_error(error, result)
        buffers = self._encode(Response(number, error, result))
        if error is not None and self.phase == "greeting":
            self._agree(frozenset(), self._peer_max_frame)
        self._open.discard(number)
        if self.codec.shared and self.memory is not None:
            self.memory.gave(self._take_shared())
        if self._borrowed and self.memory is not None:
            self.memory.forget(self._borrowed.pop(number, []))
        if self._open_streams:
            self._open_streams.pop(number, None)
        return buffers

    def allowance(self, number: int) -> int | None:
        """How many items may be sent now for a request of the peer's; None when it did not ask for a stream."""
        account = self._open_streams.items_of(number)
        return None if account is None else account.left

    def item(self, number: int, value: Any) -> list[Buffer]:
        """One item of a streamed answer. Raises `NotOutstanding`, and `WrongState` without credit."""
        if number not in self._open:
            raise NotOutstanding(f"request {number} is not open: no item can follow its answer")
        account = self._open_streams.items_of(number)
        if account is None or account.granted <= account.passed:
            raise WrongState(f"no credit for another item of request {number}")
        buffers = self._encode_alone(Notification("$/item", [number, value]))
        account.passed += 1
        return buffers

    def give_input_credit(self, number: int, count: int) -> list[Buffer]:
        """Lets the peer send `count` more items of its request's streamed argument; nothing once that has ended."""
        account = self._open_streams.input_of(number)
        if account is None:
            return []
        check_grant(count)
        buffers = self._control("$/input_credit", number, count)
        account.granted += count
        return buffers

    # -- what we receive

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what was read, in any pieces; call `next_event()` until it gives None before feeding more."""
        if self._fault is None:
            self.decoder.feed(data)

    def end(self) -> None:
        """Says that the stream ended. Raises `TruncatedFrame` when that cut a frame in two."""
        if self._fault is not None:
            raise self._fault
        try:
            self.decoder.end()
        except RemoteProtocolError as fault:
            self._break(fault)
            raise

    def next_event(self) -> Event | None:
        """What the next message means, or None until more is fed.

        Raises a `RemoteProtocolError` when the peer broke the rules, after the events before it, and the same one at
        each later call: the session is broken, and only `asked`, `open` and `answer()` are of use.
        """
        if self._fault is not None:
            raise self._fault
        try:
            while True:
                frame = self.decoder.next_frame()
                if frame is None:
                    return None
                self.frame_size = len(frame)
                event = self._receive(self.codec.decode(frame))
                if event is not None:
                    return event
        except RemoteProtocolError as fault:
            self._break(fault)
            raise

    def _break(self, fault: RemoteProtocolError) -> None:
        self.phase = "broken"
        self._fault = fault

    def _receive(self, message: Message) -> Event | None:
        if type(message) is Response:
            return self._receive_answer(message)
        if type(message) is Request:
            if message.id in self._open:
                raise DuplicateId(f"request id {message.id} is still in use by an earlier request")
            event = self._receive_request(message)
            self._open.add(message.id)
            if self.codec.attached:
                self._borrowed[message.id] = self._take_attached()
            return event
        assert type(message) is Notification
        if self.codec.attached:
            raise InvalidExtension(f"a shared ndarray (extension type 2) in the notification {shown(message.method)}")
        if self.phase != "ready" and (self.phase == "new" or message.method not in ("$/log", "$/progress")):
            raise HandshakeExpected(f"notification {shown(message.method)} before the handshake was done")
        if message.method.startswith("$/"):
            return self._receive_control(message)
        return message

    def _receive_answer(self, message: Response) -> Event:
        number = message.id
        try:
            tag = self._asked.pop(number)
        except KeyError:
            raise self._not_asked("an answer", number) from None
        if self._asked_streams:
            self._asked_streams.pop(number, None)
        if self._lent and self.memory is not None:
            self.memory.take_back(self._lent.pop(number, []))
        if self.codec.attached and self.memory is not None:
            self.memory.keep(self._take_attached())
        return Answered(number, tag, message.error, message.result)

    def _receive_request(self, message: Request) -> Event:
        if self.phase != "ready":
            raise HandshakeExpected(f"request {shown(message.method)} before the handshake was done")
        meta = message.meta
        if meta and ("credit" in meta or "input" in meta):
            check_streams(meta, self.features)
            self._open_streams[message.id] = RequestStreams(meta)
        return message

    def _receive_control(self, message: Notification) -> Event | None:
        method, params = message.method, message.params
        if method == "$/item":
            return self._receive_item(*take_item(method, params))
        if method == "$/cancel":
            number = take_id(method, params)
            return CancelAsked(number) if number in self._open else None
        if method == "$/credit":
            number, count = take_grant(method, params)
            account = self._open_streams.items_of(number)
            if account is None:
                return None
            account.granted += count
            return CreditGiven(number, count)
        if method in PARSED:
            event = PARSED[method](params)
            if type(event) is Progressed and event.id not in self._asked:
                return None
            return event
        if method == "$/input":
            return self._receive_input(*take_item(method, params))
        if method == "$/input_end":
            number = take_id(method, params)
            return InputEnded(number) if self._open_streams.end_input(number) else None
        if method == "$/input_credit":
            number, count = take_grant(method, params)
            account = self._asked_streams.input_of(number)
            if account is None:
                return None
            account.granted += count
            return InputCreditGiven(number, count)
        return None  # version 1 may grow: unknown notifications are ignored

    def _receive_item(self, number: int, value: Any) -> Event:
        if number not in self._asked:
            raise self._not_asked("an item", number)
        account = self._asked_streams.items_of(number)
        if account is None or account.granted <= account.passed:
            raise CreditExceeded(f"an item for request {number} beyond the credit it was given")
        account.passed += 1
        return Item(number, self._asked[number], value)

    def _receive_input(self, number: int, value: Any) -> Event | None:
        account = self._open_streams.input_of(number)
        if account is None or account.granted <= account.passed:
            if number not in self._open:  # looked at last: another thread may be answering it
                return None  # it crossed the answer
            raise CreditExceeded(f"an item of the streamed argument of request {number} beyond the credit it was given")
        account.passed += 1
        return InputItem(number, value)

    def _not_asked(self, what: str, number: int) -> RemoteProtocolError:
        if number < self._next_id:
            return AnsweredTwice(f"{what} for request {number}, which was answered already")
        return UnknownId(f"{what} for request {number}, which was never made")

    def check(self, value: Any) -> None:
        """Raises `Unencodable` or `OversizedMessage` for a value that cannot be sent, not even by itself."""
        self._encode_alone(Notification("$/check", [value]))

    def let_go(self) -> None:
        """The connection is over: takes back what its open requests share, and forgets what they have brought."""
        if self.memory is not None:
            for places in self._lent.values():
                self.memory.take_back(places)
        self._lent.clear()
        self._borrowed.clear()
        self.codec.shared.clear()
        self.codec.attached.clear()
        if self._fault is not None:
            self._fault.__traceback__ = None  # with the values of the message that was at fault

    # -- what both directions share

    def _encode(self, message: Message) -> list[Buffer]:
        try:
            buffers = self.codec.encode(message)
            if self.codec.shared and self.memory is not None:
                self.memory.check(self.codec.shared)
            size = sum(map(len, buffers)) - 4
            if size > self._peer_max_frame:
                raise OversizedMessage(
                    f"the message is {size} bytes long and the peer accepts frames of {self._peer_max_frame} "
                    "(max_frame)"
                )
        except BaseException:
            if self.codec.shared and self.memory is not None:
                self.memory.unshare(self._take_shared())
            raise
        return buffers

    def _as_received(self, buffers: list[Buffer]) -> Message:
        """The message in what `_encode` gave."""
        return self.codec.decode(b"".join(buffers)[4:])

    def _encode_alone(self, message: Message) -> list[Buffer]:
        """Encodes a message that no answer follows: nobody could say when what it shared may be freed."""
        if self.codec.sharing is None:
            return self._encode(message)
        self.codec.sharing = None
        try:
            return self._encode(message)
        finally:
            self.codec.sharing = self.memory

    def _take_shared(self) -> list[Place]:
        shared, self.codec.shared = self.codec.shared, []
        return shared

    def _take_attached(self) -> list[tuple[str, Any]]:
        attached, self.codec.attached = self.codec.attached, []
        return attached

    def _control(self, method: str, *params: Any) -> list[Buffer]:
        self._must_be_ready("notification", method)
        return self._encode_alone(Notification(method, list(params)))

    def _must_be_ready(self, what: str, method: str) -> None:
        if self.phase != "ready":
            raise WrongState(f"{what} {method} cannot be sent: the connection is {self.phase}, not ready")

    def _agree(self, features: frozenset[str], peer_max_frame: int) -> None:
        self.features = features
        self._peer_max_frame = peer_max_frame
        self.codec.ndarray = "ndarray" in features
        if "shm" in features and "ndarray" in features:
            self.codec.memory = self.codec.sharing = self.memory
        self.phase = "ready"


# Sent by notify(), these would pass the session's accounts by.
_ACCOUNTED: dict[str, Callable[..., list[Buffer]]] = {
    "$/cancel": Session.cancel,
    "$/credit": Session.give_credit,
    "$/input": Session.input,
    "$/input_credit": Session.give_input_credit,
    "$/input_end": Session.end_input,
    "$/item": Session.item,
}
