"""A worker that recommends items to users, and learns from each thing that a user does at once: item to item.

    [service.recommend]
    command = ["python", "-m", "mlports_models.recommender"]
    route = "hash"          # with several replicas: a user's history is in one of them
    key = 0                 # the user

    mlports call recommend.event ada "The Sting"     # [["Chinatown", 0.31], …]

Users and items are texts or whole numbers. Each replica learns from its own users alone. The service's `config`, all of
it optional:

- `recent`: recommendations are made from the user's last so many items (default: 10).
- `decay`: what each of them counts, of what the one after it counts (default: 0.8).
- `items`: the most items that there may be; they take up to 4 · items² bytes (default: 5,000).
- `snapshot`: see docs/snapshots.md. What is kept is the events; the rest is counted anew from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .item_to_item import Recommender

worker = Worker("recommender")
_recommender: Recommender


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _recommender
    settings.need_numpy("recommender")
    from .item_to_item import Recommender

    _recommender = Recommender(config)


@worker.method(idempotent=True)
def event(user: Any, item: Any, count: int = 10) -> list[tuple[Any, float]]:
    """The user has bought, seen or rated the item: learns from it, and gives what `recommend` gives then.

    An item that the user has had before changes nothing, so that an event may come twice.
    """
    _recommender.learn(user, item)
    return _recommender.recommend(user, count)


@worker.method(idempotent=True)
def recommend(user: Any, count: int = 10) -> list[tuple[Any, float]]:
    """The best items that the user has not had, each with its score, best first; for a stranger the most popular."""
    return _recommender.recommend(user, count)


@worker.method(idempotent=True)
def info() -> dict[str, int]:
    """How many users, items and events there were."""
    return _recommender.info()


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _recommender.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _recommender.take(state)


if __name__ == "__main__":
    worker.run()
