"""The worker of every mlports and Erlang measurement: it gives back what it gets, through the Python SDK."""

from __future__ import annotations

from typing import Any

from mlports_worker import Worker

worker = Worker("echo")


@worker.method(idempotent=True)
def echo(value: Any) -> Any:
    return value


@worker.method(batch=True, idempotent=True)
def echo_batch(values: list[Any]) -> list[Any]:
    return values


if __name__ == "__main__":
    worker.run()
