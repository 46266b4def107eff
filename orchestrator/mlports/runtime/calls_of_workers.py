"""The calls that handlers make of other services: each is tied to the request that it is made for.

So it ends with that request: it has its deadline and its trace, it is cancelled when nobody wants the answer any more
or the worker dies, and where services wait for each other in a circle, it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlports.core.call_cycles import Slots, Waiting, path, stuck
from mlports.errors import CallCycle, CallError
from mlports.runtime.call import Call, Sent, Special
from mlports_protocol import LocalProtocolError, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlports.runtime.port import Port
    from mlports.runtime.service import Service

    Route = Callable[[str, list[Any], float | None, Special | None], asyncio.Future[Any]]

_PATIENCE = 0.02  # seconds that a call waits before anybody asks whether it ever can begin
_STEP = 0.1  # seconds between two such looks


class CallsOfWorkers:
    """The calls of all workers of an orchestrator that have no answer yet."""

    def __init__(self, route: Route, services: Mapping[str, Service]) -> None:
        self._route = route
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[asyncio.Future[Any], tuple[Port, Sent | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def make(self, port: Port, request: Request) -> None:
        """A worker calls a service: the call is made in its name, and its outcome sent back."""
        meta = request.meta or {}
        parent, trace = _parent(port, meta.get("parent")), meta.get("traceparent")
        if parent is not None and all(call.done() for call in parent.calls):
            self._refuse(port, request)
            return
        special = Special(parent=parent, trace=trace if isinstance(trace, str) else None)
        future = self._route(request.method, request.params, _timeout(meta, parent), special)
        self._under_way[future] = (port, parent)
        future.add_done_callback(lambda future: self._settle(port, request, future))
        if self._timer is None and not future.done():
            self._timer = self._loop.call_later(_PATIENCE, self._look)

    def _refuse(self, port: Port, request: Request) -> None:
        text = f"{request.method} was not called: nobody waits any more for the answer of the call that it is made for"
        port.send(port.session.answer(request.id, {"code": "cancelled", "message": text}))
        port.flush()

    def cancel_of(self, port: Port) -> None:
        """The worker is dead: nobody waits for what it has asked for."""
        self._cancel([future for future, (caller, _) in self._under_way.items() if caller is port])

    def cancel_for(self, sent: Sent) -> None:
        """Nobody waits for the answer of this request any more, nor for what its handler has asked for."""
        if self._under_way:
            self._cancel([future for future, (_, parent) in self._under_way.items() if parent is sent])

    def close(self) -> None:
        """No more circles are looked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel(self, futures: list[asyncio.Future[Any]]) -> None:
        for future in futures:
            future.cancel()

    def _settle(self, port: Port, request: Request, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(future, None)
        if port.state == "dead" or request.id not in port.session.open:
            if not future.cancelled():
                future.exception()  # seen: nobody is left to be told
            return
        error: dict[str, Any] | None
        if future.cancelled():
            error = {"code": "cancelled", "message": f"{request.method} was cancelled"}
        else:
            exception = future.exception()
            error = None if exception is None else _as_error(exception)
        try:
            result = future.result() if error is None else None
            buffers = port.session.answer(request.id, error, result)
        except LocalProtocolError as unsendable:
            text = f"the answer of {request.method} cannot be sent on: {unsendable}"
            try:
                buffers = port.session.answer(request.id, {"code": "internal", "message": text[:1000]})
            except LocalProtocolError:  # it takes no frame of this length, and waits in vain
                return
        port.send(buffers)
        port.flush()

    # -- circles

    def _look(self) -> None:
        self._timer = None
        calls = [call for call in self._under_way if isinstance(call, Call) and not call.done()]
        if any(not _has_begun(call) for call in calls):
            self._end_circle(calls)
        if self._under_way:
            self._timer = self._loop.call_later(_STEP, self._look)

    def _end_circle(self, calls: list[Call]) -> None:
        slots, service_of = self._slots(calls)
        waiting = [
            Waiting(_id(call), call.dispatcher.service, _id_of_parent(self._under_way[call][1]), _lane_of(call))
            for call in calls
        ]
        never = stuck(waiting, slots)
        for call in reversed(calls):
            if _id(call) in never:
                services = path(_id(call), waiting, slots, service_of)
                service, method = call.dispatcher.service, call.method
                text = (
                    f"{service}.{method} can never begin: {' → '.join(services)} is a circle, and every replica in it "
                    f"waits for another. Give {services[0]} more replicas, or do not let it call itself in this way"
                )
                request = call.request
                call.fail(CallCycle(text, service=service, method=method))
                if request is not None:
                    call.dispatcher.sender.give_up(request)
                return  # the others may be free now

    def _slots(self, calls: list[Call]) -> tuple[list[Slots], dict[int, str]]:
        """What the replicas do of all services that have to do with these calls."""
        parents = (self._under_way[call][0].service for call in calls)
        slots, service_of = [], {}
        for name in {*parents, *(call.dispatcher.service for call in calls)}:
            if self._services[name].is_short:  # one more is on its way
                slots.append(Slots(name, -1, 1, ()))
            for port, lane in self._services[name].dispatcher.lanes.items():
                at = _at(port)
                service_of.update(dict.fromkeys(at, name))
                # One that is to go takes no more calls, and what it does will end or not, like all others.
                slots.append(Slots(f"{name}, leaving" if lane.retired else name, port.replica, len(at) or 1, at))
                if not lane.retired:
                    slots[-1] = slots[-1]._replace(capacity=port.peer.concurrency)
        return slots, service_of


def _parent(port: Port, number: Any) -> Sent | None:
    """The request whose handler calls; where the worker does not say, the only one that it can be at."""
    if isinstance(number, int):
        sent = port.session.asked.get(number)
        return sent if isinstance(sent, Sent) else None
    at = [sent for sent in port.session.asked.values() if isinstance(sent, Sent)]
    return at[0] if at and port.peer.concurrency == 1 else None


def _timeout(meta: Mapping[str, Any], parent: Sent | None) -> float | None:
    deadline = meta.get("deadline_ms")
    timeout = deadline / 1000 if isinstance(deadline, int | float) and deadline is not True else None
    if parent is not None:  # a worker that knows nothing of deadlines is held to them too
        latest = max(call.deadline for call in parent.calls) - time.monotonic()
        if latest != float("inf") and (timeout is None or latest < timeout):
            return latest
    return timeout


def _at(port: Port) -> tuple[int, ...]:
    """The requests that a worker works at: the first ones, as many as it does at a time."""
    sent = [id(each) for each in port.session.asked.values() if isinstance(each, Sent)]
    return tuple(sent[: port.peer.concurrency])


def _has_begun(call: Call) -> bool:
    return call.request is not None and id(call.request) in _at(call.request.port)


def _id(call: Call) -> int:
    return id(call if call.request is None else call.request)


def _id_of_parent(parent: Sent | None) -> int | None:
    return None if parent is None else id(parent)


def _lane_of(call: Call) -> tuple[str, int] | None:
    port = call.request.port if call.request is not None else call.dispatcher.entrance.only_port(call)
    return None if port is None else (call.dispatcher.service, port.replica)


def _as_error(exception: BaseException) -> dict[str, Any]:
    if isinstance(exception, CallError):
        return exception.as_error()
    return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}
