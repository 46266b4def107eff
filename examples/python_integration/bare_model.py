"""The same model without an SDK: a length in 4 bytes, a MessagePack array, and an answer alike. It must never print."""

import sys
from typing import Any

import msgpack
from softmax import Softmax  # type: ignore[import-not-found]  # it stands beside this program

model = Softmax(sys.argv[1])


def answer(method: str, params: list[Any]) -> tuple[dict[str, str] | None, Any]:
    """The error and the result of a request, one of them None."""
    if method != "predict":  # $/hello, too: that makes this a bare worker
        return {"code": "unimplemented", "message": f"there is no method {method}"}, None
    try:
        return None, model.predict(*params)
    except Exception as error:
        return {"code": "unknown", "message": f"{type(error).__name__}: {error}"}, None


while len(header := sys.stdin.buffer.read(4)) == 4:
    kind, *rest = msgpack.unpackb(sys.stdin.buffer.read(int.from_bytes(header, "big")))
    if kind != 0:  # no request: nobody waits for an answer
        continue
    number, method, params, *_ = rest
    error, result = answer(method, params)
    reply = msgpack.packb([1, number, error, result])
    sys.stdout.buffer.write(len(reply).to_bytes(4, "big") + reply)
    sys.stdout.buffer.flush()
