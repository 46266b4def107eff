"""What mlports promises, held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders.contender import BULK, ONE, TWO_CORES
from benchmarks.measure import Board, Entry, Spread
from benchmarks.recovery.rounds import ALONE, STANDBY, STRATEGIES, crowd_key, kill_key, machine_key
from benchmarks.startup import HELP_MS, IMPORT_MS, RSS_MIB
from benchmarks.streaming import GROWTH_MIB, RATE

PLACEMENT = TWO_CORES
"""Where the latency targets hold: caller and worker on a core each, which is what a worker process is for. Left alone,
a run's ratio is that of two placements as often as of two libraries."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio or a figure. `measured` is None when a side of it could not be measured here."""

    name: str
    at_most: bool
    bound: float
    unit: str
    measured: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound; None when there is no measurement."""
        if self.measured is None:
            return None
        return self.measured.median <= self.bound if self.at_most else self.measured.median >= self.bound

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]

    @property
    def wanted(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:,g}{self.unit}"


def _local(contender: str, payload: str, mode: str) -> Entry:
    return Entry("local", contender, payload, mode)


def targets(board: Board) -> list[Target]:
    """Every target, in the order in which the table shows them."""
    call = _local("mlports", "64 B", PLACEMENT)
    blocking = _local("mlports-blocking", "64 B", PLACEMENT)
    c = _local("c", "64 B", PLACEMENT)
    erlang = _local("erlang", "64 B", PLACEMENT)
    many = _local("mlports", "64 B", "256")
    pool = _local("ppe", "64 B", BULK)
    batch = _local("mlports", "64 B", "map-batch")
    array = Entry("ray", "mlports", "8 MiB array", ONE)
    ray_array = Entry("ray", "ray", "8 MiB array", ONE)
    large, small = _local("mlports", "64 MiB array", ONE), _local("mlports", "8 MiB array", ONE)

    def figure(name: str) -> Spread | None:
        return Spread.of(board.figures.get(name, ()))

    # The time of A over the time of B is the speed of B over the speed of A.
    return [
        Target("call, 64 B one at a time: time over C pipe ping-pong's", True, 2.5, "x", board.speed_ratio(c, call)),
        Target("call, 64 B one at a time: time over Erlang's", True, 1.3, "x", board.speed_ratio(erlang, call)),
        Target("blocking call, 64 B: time over C pipe ping-pong's", True, 3, "x", board.speed_ratio(c, blocking)),
        Target("256 in flight, 64 B: calls/s over a process pool's", False, 25, "x", board.speed_ratio(many, pool)),
        Target("map over a batch method: items/s over call's", False, 5, "x", board.speed_ratio(batch, many)),
        Target("8 MiB array: echoes/s over Ray's", False, 3, "x", board.speed_ratio(array, ray_array)),
        Target("64 MiB array: time over 8 MiB's", True, 9, "x", board.speed_ratio(small, large)),
        Target(IMPORT_MS.removesuffix(", ms"), True, 150, " ms", figure(IMPORT_MS)),
        Target(HELP_MS.removesuffix(", ms"), True, 300, " ms", figure(HELP_MS)),
        Target(RSS_MIB.removesuffix(", MiB"), True, 60, " MiB", figure(RSS_MIB)),
        Target(GROWTH_MIB.removesuffix(", MiB"), True, 64, " MiB", figure(GROWTH_MIB)),
        Target(RATE.removesuffix(", MiB/s"), False, 500, " MiB/s", figure(RATE)),
        *_recovery(board),
    ]


def _recovery(board: Board) -> list[Target]:
    standby, alone, bare = map(kill_key, (STANDBY, ALONE, "kills-bare-start"))
    thousand, ten = crowd_key("crowd-mlports", 1000), crowd_key("crowd-mlports", 10)
    p99 = board.p99(f"{standby}: ms")
    restart = board.ratio(f"{alone}: ms", f"{bare}: ms")
    start = board.ratio(f"{thousand}: start", f"{crowd_key('crowd-spawned', 1000)}: start")
    crash = board.ratio(f"{thousand}: crash", f"{ten}: crash")

    def events(strategy: str) -> Spread | None:
        return board.spread(f"{machine_key(strategy)}: events")

    return [
        Target("kill -9 to the next answer, with a standby: p99", True, 10, " ms", p99),
        Target("kill -9 to the next answer: time over the worker's bare start", True, 1.2, "x", restart),
        Target("start of 1,000 C workers: time over a posix_spawn loop's", True, 1.5, "x", start),
        Target("CPU of a crash among 1,000 workers over that among 10", True, 1.2, "x", crash),
        *[Target(f"{name}, the state machine", False, 200_000, " events/s", events(name)) for name in STRATEGIES],
    ]
