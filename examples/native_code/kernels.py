"""A worker with the same computation in Python and in C; it runs as a process or inline, and does not know which."""

from __future__ import annotations

import ctypes
from typing import Any

from mlports_worker import Worker

worker = Worker("kernels")
library: ctypes.CDLL


@worker.setup
def load(config: dict[str, Any]) -> None:
    global library
    library = ctypes.CDLL(config["library"])
    library.sum_of_squares.restype = ctypes.c_double
    library.sum_of_squares.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@worker.method(idempotent=True)
def in_python(values: Any) -> float:
    total = 0.0
    for value in values.tolist():
        total += value * value
    return total


@worker.method(idempotent=True)
def in_c(values: Any) -> float:
    # Nobody checks for C what it is given: without this line, an array of another kind is read as what it is not.
    if values.dtype != "<f8" or not values.flags.c_contiguous:
        raise ValueError(f"a contiguous array of float64 is needed, not of {values.dtype}")
    total: float = library.sum_of_squares(values.ctypes.data, values.size)
    return total


@worker.method
def crash() -> None:
    library.write_where_nothing_is()


worker.run()
