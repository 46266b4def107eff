"""Every type of the wire, there and back (SPEC.md 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlports.testing.conformance.comparison import described, difference, same
from mlports.testing.conformance.conversation import Conversation
from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import golden_frames, value_in

_ID = 1  # of the requests in the vectors
_MIB = 1024 * 1024

_SPECIAL_FLOATS = ("float-inf", "float-minus-inf", "float-nan", "float-minus-zero")
_INTEGRAL_FLOATS = ("float-1.0", "float-zero")
_ODD_KEYS = ("map-int-keys", "map-bin-key", "map-bool-and-nil-keys")
_TEXT_IN_BIN = ("bin-long-header", "bin-empty")


def _vectors(*prefixes: str, leave_out: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The vectors of one request to `echo`, by the beginnings of their names; optional ones by whole names."""
    left_out = set(leave_out)
    return [
        vector
        for vector in golden_frames()
        if vector["name"].startswith(prefixes)
        and len(vector.get("messages", ())) == 1
        and vector["messages"][0].get("method") == "echo"
        and "segments" not in vector
        and vector["name"] not in left_out
        and (not vector.get("optional") or vector["name"] in prefixes)
    ]


def _echoes(talk: Conversation, vectors: list[dict[str, Any]]) -> None:
    for vector in vectors:
        came = _answer(talk, vector)
        sent = value_in(bytes.fromhex(vector["hex"])[4:])[3]
        expected = sent[0]
        if not same(expected, came):
            wanted, got = difference(expected, came)
            raise Failed(f"{wanted} (vector {vector['name']})", got, section=vector["section"])


def _answer(talk: Conversation, vector: dict[str, Any]) -> Any:
    call = talk.new_call("echo", id=_ID)
    talk.send_bytes(bytes.fromhex(vector["hex"]), f"vector {vector['name']}")
    try:
        return talk.result(call)
    except Failed as failed:
        raise Failed(
            f"{failed.expected}, vector {vector['name']}", failed.came, late=failed.late, section=failed.section
        ) from None
    finally:
        if call.response is not None:
            talk.forget_answered()


@row("echo gives back nil and booleans", section="3.1", level="bare", needs=("echo",))
def nil_and_booleans(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("value-nil", "value-false", "value-true"))


@row("integers within ±(2^53 − 1) stay the same integers", section="3.2", level="bare", needs=("echo",))
def integers(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("value-int-"))


@row("integers of 64 bits stay the same integers", section="3.2", level="bare", needs=("echo",), optional=True)
def integers_of_64_bits(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("value-uint64-max", "value-int64-max", "value-int64-min"))


@row("floats stay the same floats", section="3.3", level="bare", needs=("echo",))
def floats(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("float-", leave_out=(*_SPECIAL_FLOATS, *_INTEGRAL_FLOATS, "float-32")))


@row("NaN, the infinities and −0.0 are values like others", section="3.3", level="bare", needs=("echo",))
def special_floats(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors(*_SPECIAL_FLOATS))


@row("1.0 stays a float", section="3.3", level="bare", needs=("echo",), optional=True)
def integral_floats(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors(*_INTEGRAL_FLOATS))


@row("a float of 32 bits is read", section="3.3", level="bare", needs=("echo",))
def floats_of_32_bits(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("float-32"))


@row("str stays str, of any length and letters", section="3.4", level="bare", needs=("echo",))
def strings(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("str-"))


@row("bin that is no text stays bin", section="3.4", level="bare", needs=("echo",))
def binaries(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("bin-", leave_out=_TEXT_IN_BIN))


@row("bin that could be text stays bin", section="3.4", level="bare", needs=("echo",), optional=True)
def text_in_bin(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors(*_TEXT_IN_BIN))


@row("arrays, empty and mixed ones too", section="3.5", level="bare", needs=("echo",))
def arrays_of_values(trial: Trial) -> None:
    talk = trial.talk()
    _echoes(talk, _vectors("array-"))
    talk.echoes([[], {}, [[]], [{}], ["a", [1, [2.5, None]]]])


@row("nesting of 32 levels", section="3.5", level="bare", needs=("echo",))
def nesting_of_32(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("nesting-32"))


@row("nesting of 128 levels", section="3.5", level="bare", needs=("echo",), optional=True)
def nesting_of_128(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("nesting-128"))


@row("maps with strings for keys, empty ones and many", section="3.6", level="bare", needs=("echo",))
def maps(trial: Trial) -> None:
    talk = trial.talk()
    _echoes(talk, _vectors("map-", leave_out=_ODD_KEYS))
    talk.echoes({"a": {}, "b": {"c": {"d": []}}, "ключ": 1, "": None})


@row("maps with integers, bin, booleans and nil for keys", section="3.6", level="bare", needs=("echo",), optional=True)
def maps_with_odd_keys(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors(*_ODD_KEYS))


@row("a map keeps its order", section="3.6", level="bare", needs=("echo",), optional=True)
def order_of_maps(trial: Trial) -> None:
    sent = {"zulu": 1, "alpha": 2, "mike": 3, "bravo": 4}
    came = trial.talk().call("echo", sent)
    if not same(list(sent), list(came)):
        raise Failed(f"keys in the order {list(sent)}", str(list(came)))


@row("timestamps stay the same moments", section="3.8", level="bare", needs=("echo",))
def timestamps(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("timestamp-"))


@row("timestamps with nanoseconds", section="3.8", level="bare", needs=("echo",), optional=True)
def timestamps_with_nanoseconds(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("timestamp-64-nanoseconds"))


@row("an application's extension values are handed on", section="3.7", level="bare", needs=("echo",))
def extensions(trial: Trial) -> None:
    _echoes(trial.talk(), _vectors("ext-application", "ext-long-header"))


@row("an extension value that nobody knows is no error", section="3.7", level="bare", needs=("echo",))
def unknown_extension(trial: Trial) -> None:
    talk = trial.talk()
    (vector,) = _vectors("ext-reserved-is-opaque")
    call = talk.new_call("echo", id=_ID)
    talk.send_bytes(bytes.fromhex(vector["hex"]), f"vector {vector['name']}")
    talk.answer(call)


@row("values in longer forms than necessary are read", section="3.1", level="bare", needs=("echo",))
def longer_forms(trial: Trial) -> None:
    talk = trial.talk()
    _echoes(talk, _vectors("int-", "str-long-header", "array-long-header", "map-long-header"))
    (vector,) = _vectors("bin-long-header")
    came = _answer(talk, vector)
    if came not in (b"a", "a"):
        raise Failed("the one byte 61", described(came))


@row("a str of 1 MiB", section="3.4", level="bare", needs=("echo",))
def long_string(trial: Trial) -> None:
    trial.talk().echoes("naïve " * (_MIB // 7))


@row("an array of 100000 numbers", section="3.5", level="bare", needs=("echo",))
def long_array(trial: Trial) -> None:
    trial.talk().echoes([*range(50_000), *(number + 0.5 for number in range(50_000))])


@row("add adds integers to an integer, floats to a float", section="3.3", level="bare", needs=("add",))
def sums(trial: Trial) -> None:
    talk = trial.talk()
    for one, other, expected in ((1, 2, 3), (-5, 5, 0), (0.5, 0.25, 0.75), (2**40, 1, 2**40 + 1), (1, 0.5, 1.5)):
        came = talk.call("add", one, other)
        if not same(came, expected):
            raise Failed(f"{described(expected)} for {one} + {other}", described(came))
