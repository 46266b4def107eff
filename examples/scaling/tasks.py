"""The worker: a task that does nothing, and one that counts."""

from __future__ import annotations

from mlports_worker import Worker

worker = Worker("tasks")


@worker.method(idempotent=True)
def nothing(number: int) -> None:
    """Only the way there and back."""


@worker.method(idempotent=True)
def steps(number: int) -> int:
    """How many steps of Collatz lead from a number, 1 or more, to 1: halve an even one, of an odd one 3 n + 1."""
    count = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        count += 1
    return count


if __name__ == "__main__":
    worker.run()
