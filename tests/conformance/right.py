"""A worker in plain Python that does everything right: `python right.py`; mutants.py makes one mistake of each kind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import struct
import sys
import threading
from typing import Any

import msgpack

BIGGEST = 64 * 1024 * 1024
METHODS = ["echo", "add", "fail", "refuse", "sleep", "print", "root", "count", "mark", "marks", "note"]
FEATURES = ["ping", "cancel", "stream", "batch"]


class Refused(Exception):
    """An error of a chosen code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Violation(Exception):
    """What ends the conversation."""


class Call:
    """A request that waits for its answer."""

    def __init__(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        self.id, self.method, self.params, self.meta = id, method, params, meta
        self.credit: int = meta.get("credit", -1)
        self.cancelled = False
        self.changed = threading.Condition()


class Worker:
    """One thread reads, one works; every step is a method, for a mutant to do it wrong."""

    def __init__(self) -> None:
        self.input, self.output = os.dup(0), os.dup(1)
        os.dup2(2, 1)
        self.max_frame = BIGGEST
        self.their_max_frame = BIGGEST
        self.greeted = self.stopping = False
        self.open: dict[int, Call] = {}
        self.waiting: queue.Queue[Call | None] = queue.Queue()
        self.kept: list[Any] = []
        self.lock = threading.Lock()

    # -- frames

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (piece := os.read(self.input, count - len(data))):
            data += piece
        return data

    def write(self, data: bytes) -> None:
        with self.lock:
            while data:
                data = data[os.write(self.output, data) :]

    def send(self, message: Any) -> None:
        payload = msgpack.packb(message)
        self.write(struct.pack(">I", len(payload)) + payload)

    def check_length(self, length: int) -> None:
        if not 0 < length <= self.max_frame:
            raise Violation("EmptyFrame" if not length else "FrameTooLarge")

    def receive(self) -> Any:
        head = self.read(4)
        if not head:
            return None
        if len(head) < 4:
            raise Violation("TruncatedFrame")
        (length,) = struct.unpack(">I", head)
        self.check_length(length)
        payload = self.read(length)
        if len(payload) < length:
            raise Violation("TruncatedFrame")
        return self.decode(payload)

    def decode(self, payload: bytes) -> Any:
        try:
            return msgpack.unpackb(payload, strict_map_key=False, timestamp=0)
        except Exception as error:
            raise Violation(f"MalformedValue: {error}") from None

    # -- the reading thread

    def run(self) -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self.work, daemon=True).start()
        try:
            while (message := self.receive()) is not None:
                self.on_message(message)
        except Violation as violation:
            sys.stderr.write(f"{violation}\n")
            return 1
        if self.stopping:
            threading.Event().wait()  # the other thread ends the process
        return self.status_at_end()

    def status_at_end(self) -> int:
        return 0

    def on_message(self, message: Any) -> None:
        least = {0: 4, 1: 4, 2: 3}
        if type(message) is not list or not message or type(message[0]) is not int or message[0] not in least:
            raise Violation("InvalidMessage: no message")
        kind = message[0]
        if len(message) < least[kind]:
            raise Violation("InvalidMessage: too short")
        if kind == 1:
            raise Violation("UnknownId")
        _, *ids, method, params = message[: least[kind]]
        meta = message[least[kind]] if len(message) > least[kind] else None
        if type(params) is not list or (ids and (type(ids[0]) is not int or ids[0] < 0)):
            raise Violation("InvalidMessage: params or id")
        method = method.decode() if type(method) is bytes else method
        meta = {self.text(key): value for key, value in (meta or {}).items()}
        if not self.greeted and method != "$/hello":
            raise Violation("HandshakeExpected")
        if ids:
            self.on_request(ids[0], method, params, meta)
        else:
            self.on_notification(method, params, meta)

    def text(self, key: Any) -> Any:
        return key.decode() if type(key) is bytes else key

    def on_request(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        if id in self.open:
            raise Violation("DuplicateId")
        if method == "$/hello":
            self.hello(id, params)
        elif method == "$/ping":
            self.answer(id, None)
        elif method not in METHODS:
            self.give_error(id, self.unknown_code(), f"no method {method}")
        elif self.stopping:
            self.late(id)
        else:
            self.open[id] = Call(id, method, params, meta)
            self.waiting.put(self.open[id])

    def late(self, id: int) -> None:
        self.give_error(id, "unavailable", "stopping")

    def unknown_code(self) -> str:
        return "unimplemented"

    def hello(self, id: int, params: list[Any]) -> None:
        said = params[0] if params and type(params[0]) is dict else {}
        versions = said.get("protocol")
        if self.greeted or type(versions) is not dict:
            raise Violation("HandshakeExpected" if self.greeted else "InvalidHello")
        self.check_versions(versions)
        self.their_max_frame = said.get("max_frame", BIGGEST)
        self.greeted = True
        flags = {name: {"batch": name == "root", "stream": name == "count"} for name in METHODS}
        answer = {"protocol": self.version(versions), "methods": flags, "features": FEATURES, "language": "python"}
        self.answer(id, answer)

    def version(self, versions: dict[str, int]) -> int:
        return 1

    def check_versions(self, versions: dict[str, int]) -> None:
        if not versions["min"] <= 1 <= versions["max"]:
            raise Violation("UnsupportedVersion")

    def on_notification(self, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        call = self.open.get(params[0]) if method in ("$/cancel", "$/credit") and params else None
        if call is not None:
            with call.changed:
                if method == "$/cancel":
                    self.cancel(call)
                else:
                    call.credit += params[1]
                call.changed.notify_all()
        elif method == "$/stop":
            self.stopping = True
            self.waiting.put(None)
        elif not method.startswith("$/"):
            self.waiting.put(Call(-1, method, params, meta))

    def cancel(self, call: Call) -> None:
        call.cancelled = True

    # -- the working thread

    def work(self) -> None:
        try:
            while (call := self.waiting.get()) is not None:
                self.do(call)
        except OSError:
            self.nobody_reads()
        os._exit(0)

    def nobody_reads(self) -> None:
        os._exit(1)

    def do(self, call: Call) -> None:
        cast = call.id < 0
        try:
            self.check_deadline(call)
            if call.cancelled:
                raise Refused("cancelled", "before it began")
            result = self.batch(call) if "batch" in call.meta else self.handle(call)
        except Exception as error:
            if not cast:
                self.close(call)
                code, text = self.told(error)
                self.give_error(call.id, code, text)
        else:
            if not cast:
                self.close(call)
                self.answer(call.id, result)

    def close(self, call: Call) -> None:
        del self.open[call.id]

    def check_deadline(self, call: Call) -> None:
        if call.meta.get("deadline_ms", 1) <= 0:
            raise Refused("deadline_exceeded", "too late")

    def told(self, error: Exception) -> tuple[str, str]:
        code = error.code if isinstance(error, Refused) else "unknown"
        return code, str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"

    def answer(self, id: int, result: Any) -> None:
        if len(msgpack.packb(result)) + 20 > self.their_max_frame:
            self.give_error(id, "resource_exhausted", "the result is too long")
        else:
            self.send([1, id, None, result])

    def give_error(self, id: int, code: str, text: str) -> None:
        self.send([1, id, {"code": code, "message": text}, None])

    def batch(self, call: Call) -> list[Any]:
        if call.meta["batch"] != len(call.params) or {"credit", "input"} & set(call.meta):
            raise Refused("invalid_argument", "n and params do not agree")
        pairs: list[Any] = []
        for params in call.params:
            try:
                pairs.append([None, self.handle(Call(call.id, call.method, params, {}))])
            except Exception as error:
                code, text = self.told(error)
                pairs.append([{"code": code, "message": text}, None])
        return pairs

    def handle(self, call: Call) -> Any:
        if call.method == "sleep":
            return self.sleep(call)
        if call.method == "count":
            return self.count(call)
        method = getattr(self, f"method_{call.method}")
        return method(*call.params)

    def sleep(self, call: Call) -> Any:
        with call.changed:
            if call.changed.wait_for(lambda: call.cancelled, call.params[0]):
                raise Refused("cancelled", "while it slept")
        return call.params[0]

    def count(self, call: Call) -> Any:
        if "credit" not in call.meta:
            return list(range(call.params[0]))
        for value in range(call.params[0]):
            with call.changed:
                call.changed.wait_for(lambda: call.credit > 0 or call.cancelled)
                if call.cancelled:
                    raise Refused("cancelled", "while it counted")
                call.credit -= 1
            self.item(call, value)
        return None

    def item(self, call: Call, value: int) -> None:
        self.send([2, "$/item", [call.id, value]])

    def method_echo(self, value: Any) -> Any:
        return value

    def method_add(self, one: Any, other: Any) -> Any:
        return one + other

    def method_fail(self, message: str) -> None:
        raise RuntimeError(message)

    def method_refuse(self, code: str, message: str) -> None:
        raise Refused(code, message)

    def method_print(self, text: str) -> None:
        print(text, flush=True)

    def method_root(self, number: float) -> float:
        if number < 0:
            raise Refused("invalid_argument", "negative")
        return float(number**0.5)

    def method_mark(self, value: Any) -> None:
        self.kept.append(value)

    def method_marks(self) -> list[Any]:
        return self.kept

    def method_note(self, level: str, text: str) -> None:
        self.send([2, "$/log", [level, text]])


def main(worker: Worker) -> None:
    status = 1
    with contextlib.suppress(OSError):
        status = worker.run()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(Worker())
