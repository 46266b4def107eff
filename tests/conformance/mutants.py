"""Workers that are right but for one mistake: `python mutants.py NAME`. CAUGHT_BY names the check that must see it."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
import time
from typing import Any

# A program that is started by its path finds its own folder only.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import msgpack

from tests.conformance.right import Call, Refused, Violation, Worker, main

MUTANTS: dict[str, type[Worker]] = {}
CAUGHT_BY: dict[str, str] = {}


def mutant(row: str) -> Any:
    """Decorator: a mistake, by its class's name, and the check that must see it."""

    def register(kind: type[Worker]) -> type[Worker]:
        name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)[1:]
        MUTANTS[name] = kind
        CAUGHT_BY[name] = row
        return kind

    return register


# -- frames


@mutant("many-frames-in-one-piece")
class ForgetsWhatIsBehindTheFirstFrame(Worker):
    def run(self) -> int:
        self.data = b""
        return super().run()

    def read(self, count: int) -> bytes:
        if not self.data:
            self.data = os.read(self.input, 65536)
            (length,) = struct.unpack(">I", self.data[:4]) if len(self.data) >= 4 else (0,)
            self.data = self.data[: length + 4]
            while len(self.data) < length + 4 and (more := os.read(self.input, length + 4 - len(self.data))):
                self.data += more
        data, self.data = self.data[:count], self.data[count:]
        return data


@mutant("cut-at-every-byte")
class TakesOneReadForAHeader(Worker):
    def receive(self) -> Any:
        head = os.read(self.input, 4)
        if 0 < len(head) < 4:
            head = head.rjust(4, b"\0")
            self.read(4 - len(head.lstrip(b"\0")))
        if not head:
            return None
        (length,) = struct.unpack(">I", head)
        self.check_length(length)
        return self.decode(self.read(length))


@mutant("frame-of-1-mib")
class DoesNotLoopOverShortReads(Worker):
    def read(self, count: int) -> bytes:
        return os.read(self.input, count) if count > 65536 else super().read(count)


@mutant("lone-request")
class AnswersWhenTheNextRequestComes(Worker):
    kept_back = b""

    def send(self, message: Any) -> None:
        payload = msgpack.packb(message)
        self.kept_back, frame = struct.pack(">I", len(payload)) + payload, self.kept_back
        if type(message[3]) is dict:  # the answer to hello
            frame, self.kept_back = self.kept_back, b""
        self.write(frame)


@mutant("empty-frame")
class IgnoresEmptyFrames(Worker):
    def receive(self) -> Any:
        head = self.read(4)
        if head == bytes(4):
            return self.receive()
        if not head:
            return None
        (length,) = struct.unpack(">I", head.ljust(4, b"\xff"))
        self.check_length(length)
        payload = self.read(length)
        if len(payload) < length:
            raise Violation("TruncatedFrame")
        return self.decode(payload)


@mutant("too-large")
class WaitsForThePayloadOfAFrameTooLarge(Worker):
    def check_length(self, length: int) -> None:
        if length > self.max_frame:
            self.read(1)
        super().check_length(length)


@mutant("trailing-bytes")
class IgnoresTrailingBytes(Worker):
    def decode(self, payload: bytes) -> Any:
        with contextlib.suppress(msgpack.ExtraData):
            return super().decode(payload)
        return None

    def receive(self) -> Any:
        try:
            return super().receive()
        except Violation as violation:
            if "extra data" not in str(violation):
                raise
            return [2, "nothing", []]


@mutant("result-too-long")
class SendsFramesThatAreTooLong(Worker):
    def answer(self, id: int, result: Any) -> None:
        self.send([1, id, None, result])


# -- values


@mutant("integers")
class TurnsIntegersIntoFloats(Worker):
    def method_echo(self, value: Any) -> Any:
        return float(value) if type(value) is int else value


@mutant("integral-floats")
class TurnsIntegralFloatsIntoIntegers(Worker):
    def method_echo(self, value: Any) -> Any:
        return int(value) if type(value) is float and value in (0.0, 1.0) and str(value)[0] != "-" else value


@mutant("floats")
class Sends32BitFloats(Worker):
    def method_echo(self, value: Any) -> Any:
        return struct.unpack("f", struct.pack("f", value))[0] if value == 3.141592653589793 else value


@mutant("special-floats")
class LosesNan(Worker):
    def method_echo(self, value: Any) -> Any:
        return None if value != value else value


@mutant("special-floats")
class LosesTheSignOfZero(Worker):
    def method_echo(self, value: Any) -> Any:
        return 0.0 if type(value) is float and value == 0 else value


@mutant("strings")
class SendsStringsAsBytes(Worker):
    def method_echo(self, value: Any) -> Any:
        return value.encode() if type(value) is str and not value.startswith("probe") else value


@mutant("binaries")
class SendsBytesAsStrings(Worker):
    def method_echo(self, value: Any) -> Any:
        return value.decode("latin-1") if type(value) is bytes and len(value) < 1000 else value


@mutant("maps")
class MakesAnEmptyMapAnArray(Worker):
    def method_echo(self, value: Any) -> Any:
        return [] if value == {} else value


@mutant("long-string")
class CutsLongStrings(Worker):
    def method_echo(self, value: Any) -> Any:
        return value[:65536] if type(value) is str else value


# -- messages and requests


@mutant("ids")
class AnswersWithAnotherId(Worker):
    def send(self, message: Any) -> None:
        super().send([1, message[1] & 0xFFFFFFFF, *message[2:]] if message[0] == 1 else message)


@mutant("id-again")
class AnswersTwice(Worker):
    def give_error(self, id: int, code: str, text: str) -> None:
        super().give_error(id, code, text)
        if id == 5:
            super().give_error(id, code, text)


@mutant("notifications-unanswered")
class AnswersUnknownCasts(Worker):
    def on_notification(self, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        super().on_notification(method, params, meta)
        if method == "there_is_no_such_method":
            self.give_error(0, "unimplemented", method)


@mutant("unknown-protocol-notification")
class AnswersUnknownNotifications(Worker):
    def on_notification(self, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        super().on_notification(method, params, meta)
        if method == "$/of_version_9":
            self.give_error(0, "unimplemented", method)


@mutant("unknown-meta")
class ChokesOnUnknownMeta(Worker):
    def on_request(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        if "colour" in meta:
            self.give_error(id, "invalid_argument", "no key colour")
        else:
            super().on_request(id, method, params, meta)


@mutant("more-elements")
class ChokesOnMoreElements(Worker):
    def on_message(self, message: Any) -> None:
        if len(message) > 5:
            raise Violation("InvalidMessage")
        super().on_message(message)


@mutant("pipelined")
class LosesEvery400thRequest(Worker):
    seen = 0

    def on_request(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        self.seen += 1
        if self.seen % 400:
            super().on_request(id, method, params, meta)


@mutant("unknown-method")
class AnswersNotFound(Worker):
    def give_error(self, id: int, code: str, text: str) -> None:
        super().give_error(id, "not_found" if "there_is_no" in text else code, text)


@mutant("raised")
class TellsErrorsInManyLines(Worker):
    def told(self, error: Exception) -> tuple[str, str]:
        code, text = super().told(error)
        return code, text.replace(": ", ":\n", 1)


@mutant("refused")
class MakesAllCodesUnknown(Worker):
    def told(self, error: Exception) -> tuple[str, str]:
        code, text = super().told(error)
        return "unknown" if "because of" in text else code, text


@mutant("names-in-bin")
class WantsStringsToBeStr(Worker):
    def on_message(self, message: Any) -> None:
        if type(message[2]) is bytes:
            raise Violation("InvalidMessage")
        super().on_message(message)


@mutant("casts")
class DropsCasts(Worker):
    def on_notification(self, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        if method.startswith("$/"):
            super().on_notification(method, params, meta)


@mutant("ping-while-busy")
class PingsOnlyWhenIdle(Worker):
    def on_request(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        while method == "$/ping" and self.open:
            time.sleep(0.01)
        super().on_request(id, method, params, meta)


@mutant("printing")
class PrintsOnItsOutput(Worker):
    def method_print(self, text: str) -> None:
        self.write(text.encode() + b"\n")


@mutant("expired")
class IgnoresDeadlines(Worker):
    def check_deadline(self, call: Call) -> None:
        if call.method == "mark":
            super().check_deadline(call)


@mutant("expired-not-begun")
class BeginsWhatIsTooLate(Worker):
    def check_deadline(self, call: Call) -> None:
        try:
            super().check_deadline(call)
        except Refused:
            if call.method == "mark":
                self.handle(call)
            raise


@mutant("cancelled")
class IgnoresCancel(Worker):
    def cancel(self, call: Call) -> None:
        call.cancelled = call.method != "sleep"


# -- streams and batches


@mutant("stream-within-credit")
class ExceedsCredit(Worker):
    def item(self, call: Call, value: int) -> None:
        super().item(call, value)
        if value == 1:
            call.credit += 1


@mutant("stream-within-credit")
class LosesTheLastItem(Worker):
    def item(self, call: Call, value: int) -> None:
        if value < 6 or call.params[0] != 7:
            super().item(call, value)


@mutant("cancelled-stream")
class SendsAnItemBehindItsAnswer(Worker):
    def give_error(self, id: int, code: str, text: str) -> None:
        super().give_error(id, code, text)
        if code == "cancelled" and "count" in text:
            self.send([2, "$/item", [id, 10]])


@mutant("batch-of-batch-method")
class AnswersABatchOfWrongLength(Worker):
    def batch(self, call: Call) -> list[Any]:
        pairs = super().batch(call)
        return pairs[:-1] if len(pairs) == 128 else pairs


@mutant("bad-item")
class FailsAllForOneBadItem(Worker):
    def batch(self, call: Call) -> list[Any]:
        pairs = super().batch(call)
        if call.method == "root":
            for error, _ in pairs:
                if error:
                    raise Refused(error["code"], error["message"])
        return pairs


@mutant("batch-of-wrong-length")
class BelievesTheLengthOfABatch(Worker):
    def batch(self, call: Call) -> list[Any]:
        call.meta["batch"] = len(call.params)
        return super().batch(call)


# -- handshake and end


@mutant("versions-1-to-2")
class ChoosesVersion2(Worker):
    def version(self, versions: dict[str, int]) -> int:
        return versions["max"]


@mutant("version-2-only")
class AnswersAnyVersion(Worker):
    def check_versions(self, versions: dict[str, int]) -> None:
        return


@mutant("second-hello")
class AnswersASecondHello(Worker):
    def hello(self, id: int, params: list[Any]) -> None:
        self.greeted = False
        super().hello(id, params)


@mutant("end-of-input")
class Exits1AtTheEnd(Worker):
    def status_at_end(self) -> int:
        return 1 if self.greeted else 0


@mutant("end-inside-payload")
class TakesAnEndInsideAFrameForAnEnd(Worker):
    def decode(self, payload: bytes) -> Any:
        try:
            return super().decode(payload)
        except Violation:
            if payload[:3] == b"\x94\x00\x09":
                return [2, "nothing", []]
            raise

    def receive(self) -> Any:
        try:
            return super().receive()
        except Violation as violation:
            if str(violation) == "TruncatedFrame" and self.last > 4:
                return None
            raise

    def read(self, count: int) -> bytes:
        self.last = count
        return super().read(count)


@mutant("nobody-reads")
class OutlivesItsReader(Worker):
    def run(self) -> int:
        try:
            return super().run()
        except OSError:
            signal.pause()
            raise


@mutant("stop")
class DropsWhatItHasReadWhenStopped(Worker):
    def on_notification(self, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        if method == "$/stop" and params:
            os._exit(0)
        super().on_notification(method, params, meta)


@mutant("request-behind-stop")
class BeginsWhatComesBehindStop(Worker):
    def late(self, id: int) -> None:
        self.answer(id, 0)


@mutant("interrupt")
class DiesOfInterrupts(Worker):
    def hello(self, id: int, params: list[Any]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        super().hello(id, params)


@mutant("terminated")
class IgnoresTermination(Worker):
    def hello(self, id: int, params: list[Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        super().hello(id, params)


@mutant("malformed")
class IgnoresMalformedValues(Worker):
    def decode(self, payload: bytes) -> Any:
        return [2, "nothing", []] if payload.endswith(b"\xc1") else super().decode(payload)


@mutant("answer-to-nothing")
class IgnoresAnswersToNothing(Worker):
    def on_message(self, message: Any) -> None:
        if type(message) is not list or message[:1] != [1]:
            super().on_message(message)


@mutant("id-in-use")
class TakesAnIdTwice(Worker):
    def on_request(self, id: int, method: str, params: list[Any], meta: dict[str, Any]) -> None:
        if id not in self.open:
            super().on_request(id, method, params, meta)


if __name__ == "__main__":
    main(MUTANTS[sys.argv[1]]())
