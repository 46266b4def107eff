"""The errors of calls that are not sent, or are given up: what happened, why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlports.errors import (
    CircuitOpen,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    PoisonRequest,
    ServiceDown,
    UnknownMethod,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlports.core.quarantine import Held
    from mlports.core.verdict import Verdict
    from mlports.runtime.call import Call, Special


def is_down(call: Call, why: str) -> ServiceDown:
    service = call.dispatcher.service
    return ServiceDown(f"service {service} is down: {why}", service=service, method=call.method)


def was_not_sent(call: Call, why: str) -> ServiceDown:
    service = call.dispatcher.service
    text = f"{service}.{call.method} was not sent: {why}"
    return ServiceDown(text, service=service, method=call.method, retryable=True)


def unknown_method(call: Call, methods: Iterable[str]) -> UnknownMethod:
    service = call.dispatcher.service
    known = ", ".join(sorted(methods)) or "none"
    text = f"service {service} has no method {call.method!r}; it has: {known}"
    return UnknownMethod(text, service=service, method=call.method)


def does_not_stream(call: Call) -> UnknownMethod:
    service = call.dispatcher.service
    text = f"{service}.{call.method} does not stream: it is called, and answers once"
    return UnknownMethod(text, service=service, method=call.method)


def overloaded(call: Call, waiting: int, retry_after: float) -> Overloaded:
    service = call.dispatcher.service
    text = (
        f"service {service} is overloaded: {waiting} calls wait in its queue, which is full. "
        f"Try again in {retry_after:.3g} s, call more slowly, or raise replicas or queue"
    )
    return Overloaded(text, service=service, method=call.method, retryable=True, retry_after=retry_after)


def gave_way(call: Call, retry_after: float) -> Overloaded:
    service = call.dispatcher.service
    text = (
        f"{service}.{call.method} was not sent: the queue of {service} is full, and it gave way to a call of higher "
        f"priority, or of a tag that has fewer waiting. Try again in {retry_after:.3g} s"
    )
    return Overloaded(text, service=service, method=call.method, retryable=True, retry_after=retry_after)


def circuit_open(call: Call, retry_after: float) -> CircuitOpen:
    service = call.dispatcher.service
    text = (
        f"service {service} fails too often, so its calls are refused for a while (breaker). "
        f"Try again in {retry_after:.3g} s; its events say what went wrong"
    )
    return CircuitOpen(text, service=service, method=call.method, retryable=True, retry_after=retry_after)


def too_late(call: Call, reason: str) -> DeadlineExceeded:
    service = call.dispatcher.service
    text = f"{service}.{call.method} was not answered within its timeout: {reason}"
    return DeadlineExceeded(text, service=service, method=call.method)


def bad_key(call: Call, problem: object) -> InvalidArgument:
    service = call.dispatcher.service
    return InvalidArgument(f"{service}.{call.method} cannot be routed: {problem}", service=service, method=call.method)


def bad_rank(call: Call, special: Special) -> InvalidArgument:
    service = call.dispatcher.service
    text = (
        f"{service}.{call.method} was not sent: a priority is a whole number and a tag a text, "
        f"not {special.priority!r:.60} and {special.tag!r:.60}"
    )
    return InvalidArgument(text, service=service, method=call.method)


def unsendable(call: Call, problem: object, replica: int | None) -> InvalidArgument:
    service = call.dispatcher.service
    text = f"the arguments of {service}.{call.method} cannot be sent: {problem}"
    return InvalidArgument(text, service=service, method=call.method, replica=replica)


def poison(call: Call, verdict: Verdict, deaths: int, digest: str | None) -> PoisonRequest:
    service = call.dispatcher.service
    text = (
        f"{service}.{call.method} kills the worker that it is sent to: it was in {deaths} deaths, the last time alone; "
        f"{verdict}."
    )
    if digest is not None:
        text += f" It is refused from now on (quarantine {digest}; to allow it again: mlports release {digest[:12]})"
    return PoisonRequest(
        text, verdict=verdict, service=service, method=call.method, replica=verdict.replica, digest=digest
    )


def quarantined(call: Call, held: Held) -> PoisonRequest:
    service = call.dispatcher.service
    text = (
        f"{service}.{call.method} was not sent: the same call killed a worker before, and is in quarantine as "
        f"{held.digest} ({held.reason}). To allow it again: mlports release {held.digest[:12]}"
    )
    return PoisonRequest(text, service=service, method=call.method, digest=held.digest)
