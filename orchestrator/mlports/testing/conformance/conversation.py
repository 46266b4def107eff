"""One process under test and what is said with it: the kit plays the orchestrator and sees that the rules are kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlports.core.verdict import describe_status
from mlports.testing.conformance.comparison import described, difference, same
from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.process import Process
from mlports.testing.conformance.transcript import Transcript, shortened
from mlports.testing.conformance.wire import decoded, encoded, meaning
from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    FrameDecoder,
    Message,
    Notification,
    Peer,
    RemoteProtocolError,
    Request,
    Response,
    StdoutPolluted,
)
from mlports_protocol.errors import shown

UNKNOWN_METHOD = "there_is_no_such_method"
"""What the kit calls where any answer will do and the worker has nothing better."""

_FIRST_ID = 100  # below it are those that rows choose themselves
_MOST_UNASKED = 10_000  # messages that a worker may send on its own account before it is said to flood


@dataclass
class Call:
    """A request of the kit's, and what came for it."""

    id: int
    method: str
    credit: int | None = None
    input: bool = False
    response: Response | None = None
    items: list[Any] = field(default_factory=list)
    input_credit: int = 0
    progress: list[list[Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"request {self.id} ({self.method})"


class Conversation:
    """Frames to and from one process.

    Every method that waits gives up after `timeout` seconds, and raises `Failed` then, as for everything that the
    worker does against the rules, whether or not the row is about that. `requests` holds what the worker asks of other
    services when `holds_requests` is set; otherwise that is answered `not_found` at once.
    """

    def __init__(self, process: Process, timeout: float, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        self.process = process
        self.timeout = timeout
        self.transcript = Transcript()
        self.peer: Peer | None = None
        self.greeted = False
        self.holds_requests = False
        self.requests: deque[Request] = deque()
        self.logs: deque[list[Any]] = deque(maxlen=1000)
        self.broken: Failed | None = None
        self._decoder = FrameDecoder(max_frame)
        self._next_id = _FIRST_ID
        self._calls: dict[int, Call] = {}
        self._answered: set[int] = set()
        self._their_ids: set[int] = set()
        self._unasked = 0
        self._ended = False

    # -- what the kit says

    def send(self, message: Message) -> None:
        """Sends a message."""
        self.send_bytes(encoded(message), meaning(message))

    def send_bytes(self, data: bytes, what: str) -> None:
        """Sends any bytes; `what` says in the transcript what they are."""
        self.transcript.add(True, data, what)
        self.process.queue(data)
        if not self._pump(lambda: not self.process.sending, self.timeout) and not self._ended:
            raise Failed("it to read its input", f"nothing of it was read for {self.timeout:g} s", late=True)

    def new_call(self, method: str, *, id: int | None = None, credit: int | None = None, input: bool = False) -> Call:
        """Expects the answer to a request that the row itself writes."""
        if id is None:
            id, self._next_id = self._next_id, self._next_id + 1
        self._answered.discard(id)
        self._calls[id] = Call(id, method, credit, input)
        return self._calls[id]

    def request(self, method: str, *params: Any, id: int | None = None, meta: dict[str, Any] | None = None) -> Call:
        """Sends a request."""
        meta = meta or {}
        call = self.new_call(method, id=id, credit=meta.get("credit"), input=bool(meta.get("input")))
        self.send(Request(call.id, method, list(params), meta))
        return call

    def notify(self, method: str, *params: Any, meta: dict[str, Any] | None = None) -> None:
        """Sends a cast, or a notification of the protocol's."""
        self.send(Notification(method, list(params), meta))

    def give_credit(self, call: Call, count: int) -> None:
        """Lets so many more items of a streamed answer come."""
        call.credit = (call.credit or 0) + count
        self.notify("$/credit", call.id, count)

    def answer_worker(self, request: Request, result: Any = None, error: dict[str, Any] | None = None) -> None:
        """Answers a request of the worker's."""
        self._their_ids.discard(request.id)
        self.send(Response(request.id, error, result))

    def close_input(self) -> None:
        """Ends the worker's input, behind all that was sent."""
        self.transcript.add(True, b"", "(end of input)")
        self.process.close_input()

    # -- what it waits for

    def answer(self, call: Call, timeout: float | None = None) -> Response:
        """The answer to a request."""
        self.wait(lambda: call.response is not None, f"an answer to {call}", timeout)
        assert call.response is not None
        return call.response

    def result(self, call: Call, timeout: float | None = None) -> Any:
        """The result of a request, which must not be an error."""
        response = self.answer(call, timeout)
        if response.error is not None:
            raise Failed(f"a result for {call}", f"error {_error(response.error)}")
        return response.result

    def error(self, call: Call, *codes: str, timeout: float | None = None) -> dict[str, Any]:
        """The error of a request, which must be one of these codes, if any are given."""
        response = self.answer(call, timeout)
        wanted = " or ".join(codes)
        if response.error is None:
            raise Failed(f"error {wanted} for {call}".replace("  ", " "), f"the result {described(response.result)}")
        if codes and response.error["code"] not in codes:
            raise Failed(f"error {wanted} for {call}", f"error {_error(response.error)}")
        return response.error

    def call(self, method: str, *params: Any, meta: dict[str, Any] | None = None) -> Any:
        """The result of a request that is made now."""
        return self.result(self.request(method, *params, meta=meta))

    def wait(self, done: Callable[[], bool], what: str, timeout: float | None = None) -> None:
        """Waits until something has come; `what` it was is told when it does not."""
        seconds = self.timeout if timeout is None else timeout
        if self._pump(done, seconds):
            return
        if self._ended:
            raise Failed(what, f"its output ended: {self.how_it_ended()}")
        if self.process.status is not None:
            raise Failed(what, f"nothing, and the program ended: {self.how_it_ended()}")
        raise Failed(what, f"nothing in {seconds:g} s", late=True)

    def quiet(self, seconds: float) -> None:
        """Takes what comes for so long. What must not come is found out by then."""
        self._pump(lambda: False, seconds)

    def until_read(self, seconds: float = 0.5) -> None:
        """Waits until the worker has taken what was sent out of its pipe, as far as the system tells."""
        end = time.monotonic() + seconds
        while self.process.unread() and time.monotonic() < end and not self._ended:
            self._pump(lambda: False, 0.0002)

    def wait_end(self, what: str, timeout: float | None = None, not_answering: Call | None = None) -> int:
        """The exit status, once the program has ended; what it still sends is read, and must be right.

        With `not_answering` an answer to that call is wrong.
        """
        seconds = self.timeout if timeout is None else timeout
        end = time.monotonic() + seconds

        def answered() -> bool:
            return not_answering is not None and not_answering.response is not None

        self._pump(lambda: self._ended or self.process.status is not None or answered(), seconds)
        if not_answering is not None and answered():
            raise Failed(what, f"an answer: {not_answering.response}")
        self._pump(lambda: self._ended, 0.0)  # a descendant may hold its output open
        status = self.process.wait_status(max(0.1, end - time.monotonic()))
        if status is None:
            raise Failed(what, f"it was still running {seconds:g} s later", late=True)
        return status

    def ends_abnormally(self, why: str, not_answering: Call | None = None) -> None:
        """Waits for it to end with a status other than 0, and without an answer to that call."""
        what = f"it to end with a status other than 0 after {why}"
        if self.wait_end(what, not_answering=not_answering) == 0:
            raise Failed(what, "status 0")

    def ends_normally(self, why: str) -> None:
        """Waits for it to end with status 0."""
        what = f"it to end with status 0 after {why}"
        if self.wait_end(what) != 0:
            raise Failed(what, self.how_it_ended())

    # -- rounds that most rows need

    def echoes(self, value: Any) -> None:
        """Has `echo` give a value back as it was."""
        came = self.call("echo", value)
        if not same(value, came):
            raise Failed(*difference(value, came))

    def probe(self, has_echo: bool) -> Call:
        """A request of any kind, to be looked at by `expect_probe`."""
        if has_echo:
            return self.request("echo", f"probe {self._next_id}")
        return self.request(UNKNOWN_METHOD, self._next_id)

    def expect_probe(self, call: Call) -> None:
        """Waits for a probe's answer: its own echo, or an error for a method that is not there."""
        if call.method == "echo":
            came = self.result(call)
            if came != f"probe {call.id}":
                raise Failed(f"'probe {call.id}' for {call}", described(came))
        else:
            self.error(call)

    def stderr(self) -> str:
        """The end of what it wrote on standard error."""
        return self.process.stderr.decode("utf-8", "backslashreplace")

    def how_it_ended(self) -> str:
        """Its exit status and its last words."""
        status = self.process.wait_status(0.5)
        told = "it still runs" if status is None else describe_status(status)
        lines = [line for line in self.stderr().splitlines() if line.strip()]
        return f"{told}; on stderr: {shortened(lines[-1])}" if lines else f"{told}; nothing on stderr"

    def forget_answered(self) -> None:
        """Lets go of what has been answered, all but the ids."""
        answered = [number for number, call in self._calls.items() if call.response is not None]
        self._answered.update(answered)
        for number in answered:
            del self._calls[number]

    def give_back(self) -> None:
        """Makes it as it was before a row used it."""
        self.forget_answered()
        self.holds_requests = False
        self._unasked = 0
        self.logs.clear()

    # -- what the worker says

    def _pump(self, done: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        if self.broken is not None:
            raise self.broken
        while not done():
            left = end - time.monotonic()
            data = self.process.pump(max(0.0, min(left, 0.1)))
            if data:
                self._take(data)
            elif not self.process.output_open and not self._ended:
                self._end()
            if left <= 0 or self._ended:
                return done()
        return True

    def _end(self) -> None:
        self._ended = True
        try:
            self._decoder.end()
        except RemoteProtocolError as error:
            raise self._break(error) from None

    def _take(self, data: bytes) -> None:
        self._decoder.feed(data)
        try:
            while (frame := self._decoder.next_frame()) is not None:
                self._on_frame(frame)
        except RemoteProtocolError as error:
            self.transcript.add(False, error.offending or data, "(no frame of the protocol)")
            raise self._break(error) from None

    def _on_frame(self, frame: memoryview) -> None:
        whole = len(frame).to_bytes(4, "big") + bytes(frame[:1024])
        try:
            message = decoded(frame)
        except RemoteProtocolError as error:
            self.transcript.add(False, whole, "(no message of the protocol)")
            raise self._break(error) from None
        self.transcript.add(False, whole if len(frame) <= 1024 else whole + bytes(frame[1024:]), meaning(message))
        if isinstance(message, Response):
            self._on_response(message)
            return
        if not self.greeted and message.method not in ("$/log", "$/progress"):
            raise self._wrong("nothing before its answer to $/hello but $/log and $/progress", message, "5")
        self._unasked += 1
        if self._unasked > _MOST_UNASKED:
            raise self._wrong(
                "messages that somebody asked for", message, "6", f"{_MOST_UNASKED} others, and still more"
            )
        if isinstance(message, Request):
            self._on_request(message)
        else:
            self._on_notification(message)

    def _on_response(self, response: Response) -> None:
        call = self._calls.get(response.id)
        if call is None and response.id in self._answered:
            raise self._wrong("one answer to each request", response, "6.1", "a second one")
        if call is None:
            raise self._wrong(
                f"answers to requests only ({self._open()})",
                response,
                "6.1",
                "an answer to a request that was never sent",
            )
        if call.response is not None:
            raise self._wrong(f"one answer to {call}", response, "6.1", "a second one")
        call.response = response

    def _on_request(self, request: Request) -> None:
        if request.id in self._their_ids:
            raise self._wrong("a request with an id that is not open", request, "6.2", f"id {request.id} again")
        if request.method == "$/ping":
            self._reply(Response(request.id))
        elif request.method == "$/segment":
            self._reply(Response(request.id, {"code": "resource_exhausted", "message": "no shared memory here"}))
        elif self.holds_requests:
            self._their_ids.add(request.id)
            self.requests.append(request)
        else:
            self._reply(Response(request.id, {"code": "not_found", "message": f"no service for {request.method}"}))

    def _reply(self, response: Response) -> None:
        # Written when the row waits for something: here it is in the middle of reading.
        frame = encoded(response)
        self.transcript.add(True, frame, meaning(response))
        self.process.queue(frame)

    def _on_notification(self, said: Notification) -> None:
        params = said.params
        if said.method == "$/log":
            self.logs.append(params)
        elif said.method in ("$/item", "$/input_credit", "$/progress"):
            call = self._calls.get(params[0]) if params and type(params[0]) is int else None
            if len(params) < 2 or (call is None and said.method == "$/item"):
                raise self._wrong(f"{said.method} [id, …] with the id of a request", said, "6.1")
            if call is None:
                return
            if said.method == "$/item":
                self._on_item(call, said)
            elif said.method == "$/progress":
                call.progress.append(params)
            else:
                self._on_input_credit(call, said)

    def _on_item(self, call: Call, said: Notification) -> None:
        if call.response is not None:
            raise self._wrong(f"no item behind the answer to {call}", said, "6.1", "an item")
        if call.credit is None:
            raise self._wrong(f"no items for {call}, which was made without credit", said, "8.1", "an item")
        call.items.append(said.params[1])
        if len(call.items) > call.credit:
            raise self._wrong(
                f"at most {call.credit} items of {call}, which is its credit", said, "8.1", f"item {len(call.items)}"
            )

    def _on_input_credit(self, call: Call, said: Notification) -> None:
        count = said.params[1]
        if type(count) is not int or count < 1:
            raise self._wrong("$/input_credit [id, n] with n ≥ 1", said, "8.2")
        if call.response is None and not call.input:
            raise self._wrong(f"no $/input_credit for {call}, which has no streamed argument", said, "8.2")
        call.input_credit += count

    def _open(self) -> str:
        numbers = [str(call.id) for call in self._calls.values() if call.response is None]
        return f"open: {', '.join(numbers[:8])}" if numbers else "none is open"

    def _break(self, error: RemoteProtocolError) -> Failed:
        section = {"StdoutPolluted": "1.6", "FrameTooLarge": "2.2", "TruncatedFrame": "2.4", "EmptyFrame": "2.1"}
        name = type(error).__name__
        told = (
            f"{name}: {shown(error.text)} in place of a frame"
            if isinstance(error, StdoutPolluted)
            else f"{name}: {error}"
        )
        return self._fail(
            Failed("frames of the protocol", told, section=section.get(name, "3" if name != "InvalidMessage" else "4"))
        )

    def _wrong(self, expected: str, message: Message, section: str, came: str | None = None) -> Failed:
        told = meaning(message) if came is None else f"{came}: {meaning(message)}"
        return self._fail(Failed(expected, told, section=section))

    def _fail(self, failed: Failed) -> Failed:
        self.broken = failed
        return failed


def _error(error: dict[str, Any]) -> str:
    return f"{error['code']}: {shortened(error['message'])}"
