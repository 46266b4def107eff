"""What a recording says is to be done: which frames to write, and what to wait for before each.

A frame is written as soon as the worker has answered what it had answered when that frame was recorded, has sent the
items and given the input credit that it had; so requests overlap as they did, credit is given as it was, and the gaps
between them are left out. Units are what may be left out: a request, with all that is said about it, or a cast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from mlports.core.recording import TO_WORKER, RecordedFrame, Recording
from mlports.errors import RecordingError
from mlports.replay.accounts import request_in
from mlports.replay.messages import framed, pack, parse_if_any
from mlports_protocol import Message, Notification, Request, Response

_ABOUT_OUR_REQUESTS = frozenset(["$/cancel", "$/credit", "$/input", "$/input_end"])


class Write(NamedTuple):
    """A frame for the worker, recorded `at` so many seconds; `message` is None for what is none.

    `since` is how much later than its request's it was recorded, where it is about one.
    """

    data: bytes
    at: float
    message: Message | None
    since: float = 0.0


class Await(NamedTuple):
    """Until request `id` is answered; or has sent so many items, or given so much input credit, or is answered."""

    id: int
    what: Literal["answer", "items", "input_credit"]
    least: int = 0


Step = Write | Await


class Nested(NamedTuple):
    """A request that the worker made. `answer` is None if it died without one."""

    request: Request
    answer: Response | None = None


class Script:
    """A recording, taken apart. Raises `RecordingError` for one without a `$/hello`.

    `hello` is that frame, and `greeting` its answer, None if it never came. `units` has the place of each frame that
    begins a unit. `answers` and `items` are by the request's id. `lost` counts the frames to the worker that are not
    whole. The deadlines that requests had are left out unless `deadlines`: the time left was that of another day.
    """

    def __init__(self, recording: Recording, *, deadlines: bool = False) -> None:
        self.recording = recording
        self.greeting: Response | None = None
        self.answers: dict[int, Response] = {}
        self.items: dict[int, list[Any]] = {}
        self.requests: dict[int, Request] = {}
        self.nested: list[Nested] = []
        self.units: list[int] = []
        self.lost = 0
        self._deadlines = deadlines
        self._unit_of: dict[int, int] = {}  # request -> unit
        self._unit_at: dict[int, int] = {}  # place of a frame -> unit
        self._theirs: dict[int, int] = {}  # open requests of the worker's -> their place among the nested
        self._credit: Counter[int] = Counter()
        self._steps: list[tuple[int, Step]] = []
        self._hello: Request | None = None
        for place, frame in enumerate(recording.frames):
            message = parse_if_any(frame.payload) if frame.whole else None
            if frame.direction == TO_WORKER:
                self._to_worker(place, frame, message)
            else:
                self._from_worker(place, message)
        if self._hello is None:
            raise RecordingError("the recording has no $/hello: it was cut off before its first frame, or is damaged")

    @property
    def hello(self) -> Request:
        assert self._hello is not None
        return self._hello

    def steps(self, kept: Collection[int] | None = None) -> list[Step]:
        """What to do behind the handshake for the units that are kept (None: all)."""
        return [step for unit, step in self._steps if kept is None or unit in kept]

    def said(self) -> Iterator[Message | None]:
        """Every message of the units."""
        return (step.message for _, step in self._steps if isinstance(step, Write))

    def cut(self, kept: Collection[int]) -> Recording:
        """A recording of these units alone, with what was answered to them."""
        frames, wanted = self.recording.frames, {*kept, -1}
        places = [place for place in range(len(frames)) if self._unit_at.get(place, -1) in wanted]
        return Recording(self.recording.header, [frames[place] for place in places])

    def _to_worker(self, place: int, frame: RecordedFrame, message: Message | None) -> None:
        if isinstance(message, Request) and message.method == "$/hello":
            self._hello = self._hello or message
            return
        if not frame.whole:
            self.lost += 1
            self._unit_at[place] = place
            return
        if isinstance(message, Response):
            number = self._theirs.pop(message.id, None)
            if number is not None:
                self.nested[number] = self.nested[number]._replace(answer=message)
                self._join(place, self.nested[number].request)
            return
        if message is not None and message.method == "$/stop":  # every replay ends by one
            return
        unit = place
        if isinstance(message, Request):
            self.requests[message.id] = message
            self._unit_of[message.id] = place
        elif message is not None and message.method in _ABOUT_OUR_REQUESTS:
            unit = self._unit_of.get(request_in(message), place)
        if unit == place:
            self.units.append(unit)
        self._unit_at[place] = unit
        since = frame.at - self.recording.frames[unit].at
        self._steps.append((unit, self._write(frame, message)._replace(since=since)))

    def _from_worker(self, place: int, message: Message | None) -> None:
        if isinstance(message, Request):
            self._theirs[message.id] = len(self.nested)
            self.nested.append(Nested(message))
            self._join(place, message)
            return
        about = _about(message)
        if self._hello is not None and isinstance(message, Response) and about == self._hello.id:
            self.greeting = message
            return
        unit = self._unit_of.get(about, -2)  # of a request that the ring had forgotten, or of none
        self._unit_at[place] = unit
        if unit < 0:
            return
        if isinstance(message, Response):
            self.answers[about] = message
            self._steps.append((unit, Await(about, "answer")))
        elif isinstance(message, Notification) and message.method == "$/item":
            items = self.items.setdefault(about, [])
            items.append(message.params[1])
            self._steps.append((unit, Await(about, "items", len(items))))
        elif isinstance(message, Notification):
            self._credit[about] += message.params[1]
            self._steps.append((unit, Await(about, "input_credit", self._credit[about])))

    def _join(self, place: int, nested: Request) -> None:
        """A worker's request belongs to the unit of the one that it is made for, if it says so."""
        parent = (nested.meta or {}).get("parent")
        self._unit_at[place] = self._unit_of.get(parent, -1) if type(parent) is int else -1

    def _write(self, frame: RecordedFrame, message: Message | None) -> Write:
        payload = frame.payload
        if isinstance(message, Request) and not self._deadlines and "deadline_ms" in (message.meta or {}):
            meta = {key: value for key, value in (message.meta or {}).items() if key != "deadline_ms"}
            message = message._replace(meta=meta)
            payload = pack(message.as_list())
        return Write(framed(payload), frame.at, message)


def _about(message: Message | None) -> int:
    """The request of ours that a message of the worker's is about; -1 if there is nothing to wait for in it."""
    if isinstance(message, Response):
        return message.id
    if isinstance(message, Notification) and message.method in ("$/item", "$/input_credit") and len(message.params) > 1:
        number, value = message.params[:2]
        if type(number) is int and (message.method == "$/item" or type(value) is int):
            return number
    return -1
