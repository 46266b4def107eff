"""The conversations of sessions.json: what each end says in turn, and how it ends (README.md has the format)."""

# fmt: off
from __future__ import annotations

from typing import Any

Json = Any  # a value in the tagged notation that README.md describes

FEATURES = ["batch", "cancel", "input", "ping", "stream"]
CONVERSATIONS: list[dict[str, Json]] = []


def text_map(**items: Json) -> Json:
    return {"map": [[key, item] for key, item in items.items()]}


def request(id: int, method: str, *params: Json, **meta: Json) -> Json:
    return {"type": "request", "id": id, "method": method, "params": list(params),
            "meta": text_map(**meta) if meta else None}


def result(id: int, value: Json) -> Json:
    return {"type": "response", "id": id, "error": None, "result": value, "meta": None}


def failure(id: int, code: str, message: str) -> Json:
    return {"type": "response", "id": id, "error": text_map(code=code, message=message), "result": None, "meta": None}


def note(method: str, *params: Json) -> Json:
    return {"type": "notification", "method": method, "params": list(params), "meta": None}


def orch(message: Json, **marks: Json) -> Json:
    return {"from": "orchestrator", "message": message, **marks}


def work(message: Json, **marks: Json) -> Json:
    return {"from": "worker", "message": message, **marks}


HELLO_MAP: dict[str, Json] = {
    "protocol": text_map(min=1, max=1), "max_frame": 67108864, "features": FEATURES,
    "service": "s", "replica": 0, "config": {"map": []},
}
ANSWER_MAP: dict[str, Json] = {
    "protocol": 1, "max_frame": 67108864, "name": "s", "language": "x", "sdk": "y",
    "methods": text_map(f=text_map(batch=True, stream=True, idempotent=False)), "features": FEATURES, "concurrency": 1,
}


def hello(**changes: Json) -> Json:
    return orch(request(0, "$/hello", text_map(**{**HELLO_MAP, **changes})))


def greeted(**changes: Json) -> Json:
    return work(result(0, text_map(**{**ANSWER_MAP, **changes})))


HANDSHAKE = [hello(), greeted()]


def add(name: str, section: str, side: str, *steps: Json, outcome: str = "ok") -> None:
    CONVERSATIONS.append({"name": name, "section": section, "side": side, "outcome": outcome, "steps": list(steps)})


def ready(name: str, section: str, side: str, *steps: Json, outcome: str = "ok") -> None:
    add(name, section, side, *HANDSHAKE, *steps, outcome=outcome)


def handshakes() -> None:
    add("hello", "5", "both", *HANDSHAKE)
    add("hello-then-call", "5", "both", *HANDSHAKE, orch(request(1, "f", 2)), work(result(1, 4)))
    add("hello-least", "5.1", "worker", orch(request(0, "$/hello", text_map(protocol=text_map(min=1, max=1)))))
    add("hello-wider-range", "5.3", "worker", hello(protocol=text_map(min=0, max=9)))
    add("hello-more-than-listed", "5.1", "worker", orch(request(
        0, "$/hello", text_map(**HELLO_MAP, colour="red"), "second")))
    add("hello-features-unknown", "5.4", "worker", hello(features=["ping", "telepathy"]))
    add("hello-answer-least", "5.2", "orchestrator", hello(), work(result(0, text_map(protocol=1))),
        orch(request(1, "f")), work(result(1, None)))
    add("hello-answer-more-than-listed", "5.2", "orchestrator", hello(), greeted(mood="good"))
    add("hello-answer-features-unknown", "5.4", "orchestrator", hello(), greeted(features=["ping", "telepathy"]))
    add("hello-answer-methods-list", "5.2", "orchestrator", hello(), greeted(methods=["f", "g"]))
    add("hello-answer-method-flags-absent", "5.2", "orchestrator", hello(), greeted(methods=text_map(f={"map": []})))
    add("hello-answer-in-bin", "3.4", "orchestrator", hello(), work(result(0, {"map": [
        [{"bin": b"protocol".hex()}, 1], [{"bin": b"name".hex()}, {"bin": b"s".hex()}],
        [{"bin": b"features".hex()}, [{"bin": b"ping".hex()}]]]})))
    for code in ("unimplemented", "unknown", "not_found"):
        add(f"bare-{code}", "5.5", "orchestrator", hello(), work(failure(0, code, "no such method")),
            orch(request(1, "f", 2)), work(result(1, 4)))
    add("log-before-hello-answer", "5", "both", hello(), work(note("$/log", "info", "loading", {"map": []})),
        greeted())
    add("request-before-hello", "5", "worker", orch(request(0, "f")), outcome="HandshakeExpected")
    add("cast-before-hello", "5", "worker", orch(note("g")), outcome="HandshakeExpected")
    add("request-before-hello-answer", "5", "worker", hello(), orch(request(1, "f")), outcome="HandshakeExpected")
    add("worker-request-before-hello-answer", "5", "orchestrator", hello(), work(request(0, "other.f")),
        outcome="HandshakeExpected")
    add("worker-cast-before-hello-answer", "5", "orchestrator", hello(), work(note("other.g")),
        outcome="HandshakeExpected")
    add("hello-answer-wrong-id", "5", "orchestrator", hello(), work(result(1, text_map(protocol=1))),
        outcome="UnknownId")
    add("response-before-hello", "5", "worker", orch(result(0, 1)), outcome="UnknownId")
    ready("second-hello", "5", "worker", orch(request(1, "$/hello", text_map(**HELLO_MAP))),
          outcome="HandshakeExpected")
    add("version-all-later", "5.3", "worker", hello(protocol=text_map(min=2, max=3)), outcome="UnsupportedVersion")
    add("version-answer-later", "5.3", "orchestrator", hello(), greeted(protocol=2), outcome="UnsupportedVersion")
    add("version-answer-0", "5.3", "orchestrator", hello(), greeted(protocol=0), outcome="UnsupportedVersion")
    add("hello-no-params", "5.1", "worker", orch(request(0, "$/hello")), outcome="InvalidHello")
    add("hello-not-a-map", "5.1", "worker", orch(request(0, "$/hello", 1)), outcome="InvalidHello")
    wrong: list[tuple[str, dict[str, Json]]] = [
        ("protocol-int", {"protocol": 1}), ("protocol-without-max", {"protocol": text_map(min=1)}),
        ("max-frame-0", {"max_frame": 0}), ("max-frame-2-to-31", {"max_frame": 2**31}),
        ("max-frame-str", {"max_frame": "64"}), ("features-map", {"features": {"map": []}}),
        ("features-ints", {"features": [1]}), ("service-int", {"service": 5}), ("replica-str", {"replica": "a"}),
        ("replica-negative", {"replica": -1}), ("config-array", {"config": []}),
    ]
    probe = text_map(segment="/proc/4711/fd/9", token={"bin": "00ff"})
    add("hello-shm", "5.1", "worker", hello(shm=probe), greeted())
    add("hello-shm-nil", "5.1", "worker", hello(shm=None), greeted())
    wrong += [
        ("shm-int", {"shm": 9}), ("shm-without-token", {"shm": text_map(segment="/proc/4711/fd/9")}),
        ("shm-token-str", {"shm": text_map(segment="/proc/4711/fd/9", token="t")}),
        ("shm-path-elsewhere", {"shm": text_map(segment="/etc/passwd", token={"bin": "00ff"})}),
    ]
    for name, changes in wrong:
        add(f"hello-{name}", "5.1", "worker", hello(**changes), outcome="InvalidHello")
    add("hello-without-protocol", "5.1", "worker", orch(request(0, "$/hello", {"map": []})), outcome="InvalidHello")
    add("hello-answer-nil", "5.2", "orchestrator", hello(), work(result(0, None)), outcome="InvalidHello")
    add("hello-answer-without-protocol", "5.2", "orchestrator", hello(), work(result(0, {"map": []})),
        outcome="InvalidHello")
    wrong = [
        ("protocol-str", {"protocol": "1"}), ("max-frame-0", {"max_frame": 0}),
        ("max-frame-float", {"max_frame": {"float": "1024.0"}}), ("features-str", {"features": "ping"}),
        ("methods-int", {"methods": 3}), ("methods-list-of-ints", {"methods": [3]}),
        ("methods-flags-int", {"methods": text_map(f=1)}), ("name-int", {"name": 1}),
        ("concurrency-0", {"concurrency": 0}), ("concurrency-str", {"concurrency": "many"}),
    ]
    for name, changes in wrong:
        add(f"hello-answer-{name}", "5.2", "orchestrator", hello(), greeted(**changes), outcome="InvalidHello")


def requests() -> None:
    ready("answers-in-reverse", "6.3", "both", orch(request(1, "f", 1)), orch(request(2, "f", 2)),
          work(result(2, 4)), work(result(1, 2)))
    ready("answer-is-an-error", "6.1", "both", orch(request(1, "f")), work(failure(1, "unknown", "ValueError: no")))
    ready("answered-twice", "6.1", "orchestrator", orch(request(1, "f")), work(result(1, 1)), work(result(1, 1)),
          outcome="AnsweredTwice")
    ready("error-after-result", "6.1", "orchestrator", orch(request(1, "f")), work(result(1, 1)),
          work(failure(1, "internal", "late")), outcome="AnsweredTwice")
    ready("hello-answered-twice", "6.1", "orchestrator", greeted(), outcome="AnsweredTwice")
    ready("answer-to-nothing", "6.1", "orchestrator", work(result(99, 1)), outcome="UnknownId")
    ready("orchestrator-answers-nothing", "6.1", "worker", orch(result(0, 1)), outcome="UnknownId")
    ready("orchestrator-answers-twice", "6.1", "worker", work(request(0, "t.f")), orch(result(0, 1)),
          orch(result(0, 1)), outcome="AnsweredTwice")
    ready("id-in-flight-again", "6.2", "worker", orch(request(1, "f")), orch(request(1, "f")), outcome="DuplicateId")
    ready("worker-id-in-flight-again", "6.2", "orchestrator", work(request(0, "t.f")), work(request(0, "t.f")),
          outcome="DuplicateId")
    ready("id-again-after-its-answer", "6.2", "worker", orch(request(1, "f")), work(result(1, 1)),
          orch(request(1, "f")), work(result(1, 1)))
    ready("ids-need-not-be-dense", "6.2", "worker", orch(request(500, "f")), orch(request(7, "f")),
          work(result(7, 1)), work(result(500, 1)))
    ready("same-id-in-both-directions", "6.2", "both", work(request(0, "t.f")), orch(request(1, "f")),
          work(request(1, "t.g")), orch(result(0, "a")), orch(result(1, "b")), work(result(1, "c")))
    ready("call-between-services", "6.6", "both", orch(request(1, "f")), work(request(0, "t.f", 3)),
          orch(result(0, 9)), work(result(1, 9)))
    ready("call-to-unknown-service", "6.6", "both", work(request(0, "nowhere.f")),
          orch(failure(0, "not_found", "no service nowhere")))
    ready("unknown-method", "6.4", "both", orch(request(1, "nope")), work(failure(1, "unimplemented", "nope")))
    ready("cast", "6.5", "both", orch(note("g", 1)), work(note("t.g", 2)))
    ready("cast-of-unknown-method", "6.5", "worker", orch(note("nope")))
    ready("unknown-notification", "4.5", "worker", orch(note("$/sparkle", 1), ignored=True), orch(request(1, "f")),
          work(result(1, 1)))
    ready("unknown-notification-from-worker", "4.5", "orchestrator", work(note("$/sparkle"), ignored=True))
    ready("unknown-dollar-request", "4.5", "both", orch(request(1, "$/sparkle")),
          work(failure(1, "unimplemented", "no method $/sparkle")))
    ready("unknown-dollar-request-from-worker", "4.5", "both", work(request(0, "$/sparkle")),
          orch(failure(0, "unimplemented", "no method $/sparkle")))
    ready("unknown-meta", "4.5", "both", orch(request(1, "f", colour="red")), work(result(1, 1)))
    ready("ping", "10.1", "both", orch(request(1, "$/ping")), work(result(1, None)))
    ready("ping-while-busy", "10.1", "both", orch(request(1, "f")), orch(request(2, "$/ping")), work(result(2, None)),
          work(result(1, 1)))
    ready("ping-by-worker", "10.1", "both", work(request(0, "$/ping")), orch(result(0, None)))
    ready("log-and-progress", "10.2", "both", orch(request(1, "f")), work(note("$/progress", 1, 1, 2, "half")),
          work(note("$/log", "warning", "slow", text_map(ms=900))), work(result(1, 1)))
    ready("log-without-text", "10.2", "orchestrator", work(note("$/log", "info")), outcome="InvalidMessage")
    ready("stop", "11.1", "both", orch(request(1, "f")), orch(note("$/stop", "shutdown")), work(result(1, 1)))
    ready("batch", "9", "both", orch(request(1, "f", [1], [2], batch=2)),
          work(result(1, [[None, 1], [text_map(code="unknown", message="bad"), None]])))
    ready("batch-fails-whole", "9", "both", orch(request(1, "f", [1], [2], batch=2)), work(failure(1, "unknown", "x")))
    ready("ndarray-not-claimed", "12", "worker", orch(request(1, "f", {"ndarray": {
        "dtype": "|u1", "shape": [1], "hex": "01"}})), outcome="InvalidExtension")
    ready("shm-not-claimed", "12", "worker", orch(request(1, "f", {"ext": [2, "90"]})), outcome="InvalidExtension")
    ready("arrow-not-claimed", "12", "worker", orch(request(1, "f", {"ext": [3, "00"]})), outcome="InvalidExtension")


def cancels_and_streams() -> None:
    ready("cancelled", "7.1", "both", orch(request(1, "f")), orch(note("$/cancel", 1)),
          work(failure(1, "cancelled", "cancelled by the caller")))
    ready("cancel-crosses-result", "7.1", "both", orch(request(1, "f")), orch(note("$/cancel", 1)), work(result(1, 1)))
    ready("cancel-after-answer", "7.1", "worker", orch(request(1, "f")), work(result(1, 1)),
          orch(note("$/cancel", 1), ignored=True))
    ready("cancel-of-nothing", "7.1", "worker", orch(note("$/cancel", 77), ignored=True))
    ready("cancel-answered-twice", "7.1", "orchestrator", orch(request(1, "f")), orch(note("$/cancel", 1)),
          work(failure(1, "cancelled", "")), work(result(1, 1)), outcome="AnsweredTwice")
    ready("cancel-id-str", "7.1", "worker", orch(note("$/cancel", "1")), outcome="InvalidMessage")
    ready("cancel-no-id", "7.1", "worker", orch(note("$/cancel")), outcome="InvalidMessage")
    ready("cancel-of-callers-own-direction", "7.1", "both", orch(request(1, "f")), work(request(0, "t.f")),
          work(request(1, "t.g")), work(note("$/cancel", 1)), orch(failure(1, "cancelled", "")), orch(result(0, 1)),
          work(result(1, 1)))
    item = work(note("$/item", 1, "x"))
    ready("stream", "8.1", "both", orch(request(1, "f", credit=2)), item, item, orch(note("$/credit", 1, 2)), item,
          work(result(1, None)))
    ready("stream-empty", "8.1", "both", orch(request(1, "f", credit=4)), work(result(1, None)))
    ready("stream-no-credit-yet", "8.1", "both", orch(request(1, "f", credit=0)), orch(note("$/credit", 1, 1)), item,
          work(result(1, None)))
    ready("stream-ends-in-error", "8.1", "both", orch(request(1, "f", credit=2)), item,
          work(failure(1, "unknown", "ValueError")))
    ready("stream-cancelled", "8.3", "both", orch(request(1, "f", credit=9)), item, orch(note("$/cancel", 1)), item,
          work(failure(1, "cancelled", "")))
    ready("streams-interleaved", "8.1", "both", orch(request(1, "f", credit=2)), orch(request(2, "f", credit=2)),
          work(note("$/item", 2, "b")), work(note("$/item", 1, "a")), work(result(1, None)), work(result(2, None)))
    ready("stream-from-another-service", "8.1", "both", work(request(0, "t.f", credit=1)),
          orch(note("$/item", 0, "x")), orch(result(0, None)))
    ready("credit-after-answer", "8.1", "worker", orch(request(1, "f", credit=1)), work(result(1, None)),
          orch(note("$/credit", 1, 1), ignored=True))
    ready("item-beyond-credit", "8.1", "orchestrator", orch(request(1, "f", credit=1)), item, item,
          outcome="CreditExceeded")
    ready("item-with-credit-0", "8.1", "orchestrator", orch(request(1, "f", credit=0)), item, outcome="CreditExceeded")
    ready("item-where-no-stream-was-asked", "8.1", "orchestrator", orch(request(1, "f")), item,
          outcome="CreditExceeded")
    ready("item-after-answer", "8.1", "orchestrator", orch(request(1, "f", credit=9)), work(result(1, None)), item,
          outcome="AnsweredTwice")
    ready("item-for-nothing", "8.1", "orchestrator", work(note("$/item", 42, "x")), outcome="UnknownId")
    ready("item-without-value", "8.1", "orchestrator", orch(request(1, "f", credit=9)), work(note("$/item", 1)),
          outcome="InvalidMessage")
    ready("credit-of-0", "8.1", "worker", orch(request(1, "f", credit=1)), orch(note("$/credit", 1, 0)),
          outcome="InvalidMessage")
    ready("credit-negative", "8.1", "worker", orch(request(1, "f", credit=-1)), outcome="InvalidMessage")
    ready("credit-float", "8.1", "worker", orch(request(1, "f", credit={"float": "1.0"})), outcome="InvalidMessage")
    asked = orch(request(1, "f", input=True))
    granted = work(note("$/input_credit", 1, 2))
    given = orch(note("$/input", 1, "x"))
    ready("input", "8.2", "both", asked, granted, given, given, orch(note("$/input_end", 1)), work(result(1, 2)))
    ready("input-none", "8.2", "both", asked, orch(note("$/input_end", 1)), work(result(1, 0)))
    ready("input-answered-early", "8.2", "worker", asked, granted, given, work(result(1, 0)),
          orch(note("$/input", 1, "x"), ignored=True), orch(note("$/input_end", 1), ignored=True))
    ready("input-and-stream", "8.2", "both", orch(request(1, "f", credit=1, input=True)), granted, given, item,
          orch(note("$/credit", 1, 1)), given, item, orch(note("$/input_end", 1)), work(result(1, None)))
    ready("input-without-credit", "8.2", "worker", asked, given, outcome="CreditExceeded")
    ready("input-beyond-credit", "8.2", "worker", asked, granted, given, given, given, outcome="CreditExceeded")
    ready("input-where-none-was-announced", "8.2", "worker", orch(request(1, "f")), given, outcome="CreditExceeded")


handshakes()
requests()
cancels_and_streams()
