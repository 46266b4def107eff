"""From what a service's configuration says of routing to its policy."""

from __future__ import annotations

from collections.abc import Sequence

from mlports.core.routing.broadcast import Broadcast
from mlports.core.routing.hash_ring import HashRing
from mlports.core.routing.policies import LeastInFlight, RoundRobin
from mlports.core.routing.weights import check_count

ROUTES = ("least_loaded", "round_robin", "hash", "broadcast")
"""What `route` can be; the first is the default."""


def policy_of(
    route: str,
    weights: Sequence[float] | None = None,
    *,
    replicas: int | None = None,
    standby: int = 0,
    sticky: bool = True,
) -> LeastInFlight | RoundRobin | HashRing | Broadcast:
    """The policy of a service, new and with nothing sent yet.

    `weights` are by replica number; with `replicas` and `standby` their count is checked against those. `sticky` is for
    "hash" alone. Raises `ValueError` for an unknown route, for wrong weights, and for any weights with "broadcast".
    """
    if route not in ROUTES:
        raise ValueError(_unknown(route))
    if route == "broadcast":
        if weights is not None:
            raise ValueError('weights mean nothing with route = "broadcast", where every replica gets every call')
        return Broadcast()
    policy: LeastInFlight | RoundRobin | HashRing
    if route == "hash":
        policy = HashRing(weights, sticky=sticky)
    else:
        policy = RoundRobin(weights) if route == "round_robin" else LeastInFlight(weights)
    if weights is not None and replicas is not None:
        check_count(weights, replicas, standby)
    return policy


def _unknown(route: object) -> str:
    known = ", ".join(f'"{name}"' for name in ROUTES)
    if not isinstance(route, str):
        return f"route must be one of {known}, not a {type(route).__name__}"
    import difflib

    meant = difflib.get_close_matches(route, ROUTES, n=1)
    return f'there is no route "{route[:60]}": it is one of {known}' + (
        f'. Did you mean "{meant[0]}"?' if meant else ""
    )
