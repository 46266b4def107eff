"""Which replica gets the next request, and how many it may hold at once."""

from __future__ import annotations

from mlports.core.routing.broadcast import Broadcast, Gathering
from mlports.core.routing.choice import ROUTES, policy_of
from mlports.core.routing.difference import Difference, difference
from mlports.core.routing.hash_ring import SLOTS, HashRing
from mlports.core.routing.keys import ABSENT, key_number, key_of
from mlports.core.routing.lanes import LaneView, Policy
from mlports.core.routing.policies import LeastInFlight, RoundRobin
from mlports.core.routing.shadow import Compared, Shadow, Sighting
from mlports.core.routing.weights import Weights
from mlports.core.routing.window import Window, least_in_flight

__all__ = [
    "ABSENT",
    "ROUTES",
    "SLOTS",
    "Broadcast",
    "Compared",
    "Difference",
    "Gathering",
    "HashRing",
    "LaneView",
    "LeastInFlight",
    "Policy",
    "RoundRobin",
    "Shadow",
    "Sighting",
    "Weights",
    "Window",
    "difference",
    "key_number",
    "key_of",
    "least_in_flight",
    "policy_of",
]
