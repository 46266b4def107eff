"""What mlports promises, held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders.contender import BULK, ONE, TWO_CORES
from benchmarks.dataplane.rounds import (
    ALL_OF_200,
    DEEP,
    ECHO,
    FEW,
    LONE,
    ONE_OF_200,
    ONE_SERVICE,
    WAITING_BYTES,
    digits_key,
    flat_key,
    start_key,
)
from benchmarks.flow.rounds import IN_PROCESS, LARGE_FILE, step_key
from benchmarks.languages.tables import over_python
from benchmarks.languages.worker import LANGUAGES
from benchmarks.measure import Board, Entry, Spread
from benchmarks.recovery.rounds import ALONE, STANDBY, STRATEGIES, crowd_key, kill_key, machine_key
from benchmarks.scaling import TASKS_GROWTH_MIB, TASKS_RATE
from benchmarks.startup import HELP_MS, IMPORT_MS, RSS_MIB
from benchmarks.streaming import GROWTH_MIB, RATE
from benchmarks.systems.rounds import INDICATORS, MONITORING, RECOMMENDING

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
        return f"{'≤' if self.at_most else '≥'} {self.bound:,.12g}{self.unit}"


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
    raw = _local("erlang-raw", "64 B", "256")
    large, small = _local("mlports", "64 MiB array", ONE), _local("mlports", "8 MiB array", ONE)
    copies = _local("memcpy", "64 MiB array", ONE)

    def over_ray(payload: str, mode: str) -> Spread | None:
        return board.speed_ratio(Entry("ray", "mlports", payload, mode), Entry("ray", "ray", payload, mode))

    def figure(name: str) -> Spread | None:
        return Spread.of(board.figures.get(name, ()))

    # The time of A over the time of B is the speed of B over the speed of A.
    return [
        Target("call, 64 B one at a time: time over C pipe ping-pong's", True, 2.5, "x", board.speed_ratio(c, call)),
        Target("call, 64 B one at a time: time over Erlang's", True, 1.3, "x", board.speed_ratio(erlang, call)),
        Target("blocking call, 64 B: time over C pipe ping-pong's", True, 3, "x", board.speed_ratio(c, blocking)),
        Target("256 in flight, 64 B: calls/s over a process pool's", False, 40, "x", board.speed_ratio(many, pool)),
        Target("256 in flight, 64 B: calls/s over Ray's", False, 100, "x", over_ray("64 B", "256")),
        Target("256 in flight, 64 B: calls/s over Erlang's raw echoes", False, 0.35, "x", board.speed_ratio(many, raw)),
        _either(
            Target("map over a batch method (or 3x Erlang's calls)", False, 1e6, " items/s", board.rate(batch)),
            Target(
                "map over a batch method: items/s over Erlang's calls/s (or 1,000,000 items/s)",
                False,
                3,
                "x",
                board.speed_ratio(batch, _local("erlang", "64 B", "256")),
            ),
        ),
        Target("8 MiB array: echoes/s over Ray's", False, 3, "x", over_ray("8 MiB array", ONE)),
        Target("64 MiB array: echoes/s over Ray's", False, 10, "x", over_ray("64 MiB array", ONE)),
        Target("64 MiB array: echoes/s over two copies in memory", False, 0.5, "x", board.speed_ratio(large, copies)),
        Target("64 MiB array: time over 8 MiB's", True, 9, "x", board.speed_ratio(small, large)),
        Target(IMPORT_MS.removesuffix(", ms"), True, 150, " ms", figure(IMPORT_MS)),
        Target(HELP_MS.removesuffix(", ms"), True, 300, " ms", figure(HELP_MS)),
        Target(RSS_MIB.removesuffix(", MiB"), True, 60, " MiB", figure(RSS_MIB)),
        Target(GROWTH_MIB.removesuffix(", MiB"), True, 64, " MiB", figure(GROWTH_MIB)),
        Target(RATE.removesuffix(", MiB/s"), False, 500, " MiB/s", figure(RATE)),
        Target(TASKS_GROWTH_MIB.removesuffix(", MiB"), True, 200, " MiB", figure(TASKS_GROWTH_MIB)),
        Target(TASKS_RATE.removesuffix(", tasks/s"), False, 50_000, " tasks/s", figure(TASKS_RATE)),
        *_dataplane(board),
        *_recovery(board),
        *_systems(board),
        *_languages(board),
        *_flow(board),
    ]


def _either(first: Target, second: Target) -> Target:
    """What is promised of one of two: the first, unless it is missed and the second is not."""
    return second if not first.met and second.met else first


def _dataplane(board: Board) -> list[Target]:
    def flat(services: tuple[str, int], in_flight: int) -> Spread | None:
        return board.ratio(f"{flat_key(services, in_flight)}: us", f"{flat_key(ONE_SERVICE, in_flight)}: us")

    def rows(of: str, over: str) -> Spread | None:
        return board.ratio(f"{digits_key(of, 'many')}: rows", f"{digits_key(over, 'many')}: rows")

    deep = board.ratio(f"{flat_key(ECHO, DEEP)}: us", f"{flat_key(ECHO, FEW)}: us")
    waiting = Spread.of(board.figures.get(WAITING_BYTES, ()))
    in_process = rows("digits-batched", "digits-in-process")
    unbatched = rows("digits-batched", "digits-unbatched")
    lone = board.ratio(f"{digits_key('digits-batched', 'lone')}: us", f"{digits_key('digits-unbatched', 'lone')}: us")
    start = board.ratio(f"{start_key('start-template')}: ms", f"{start_key('start-cold')}: ms")
    return [
        Target("a call to one of 200 services: time over the only one's", True, 1.2, "x", flat(ONE_OF_200, FEW)),
        Target("one call at a time to 200 services in turn: time over one's", True, 1.2, "x", flat(ALL_OF_200, LONE)),
        Target("256 calls in flight to 200 services: time over one's", True, 1.2, "x", flat(ALL_OF_200, FEW)),
        Target("a call among 50,000 in flight: time over that among 256", True, 1.2, "x", deep),
        Target(WAITING_BYTES.removesuffix(", bytes"), True, 2048, " bytes", waiting),
        Target("digits in batches, 64 callers: rows/s over predict in process", False, 0.7, "x", in_process),
        Target("digits in batches, 64 callers: rows/s over unbatched", False, 3, "x", unbatched),
        Target("digits in batches, a lone caller: p50 over unbatched", True, 1.1, "x", lone),
        Target("a start with scikit-learn from a template: time over a cold one's", True, 0.1, "x", start),
    ]


def _languages(board: Board) -> list[Target]:
    return [
        Target(
            f"256 in flight, a worker in {LANGUAGES[name]}: calls/s over Python's",
            False,
            1,
            "x",
            over_python(board, name),
        )
        for name in ("c", "cpp", "go", "java", "rust")
    ]


def _systems(board: Board) -> list[Target]:
    recommended, alerted = board.p99(f"{RECOMMENDING}: ms"), board.p99(f"{MONITORING}: ms")
    paced, bars = board.p99(f"{MONITORING}: paced"), board.spread(f"{INDICATORS}: bars")
    ahead = board.spread(f"{MONITORING}: ahead")
    return [
        Target("recommendation_system: an update with recommendations: p99", True, 5, " ms", recommended),
        Target("equipment_monitor: reading to alert, as fast as it goes: p99", True, 50, " ms", alerted),
        Target("equipment_monitor: reading to alert, 250 readings a second: p99", True, 50, " ms", paced),
        Target("equipment_monitor: readings on their way", True, 16, "", ahead),
        Target("equipment_monitor: ROC AUC, without labels", False, 0.95, "", board.spread(f"{MONITORING}: auc")),
        Target("market_analyzer: 20 symbols, two workers", False, 100_000, " bars/s", bars),
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


def _flow(board: Board) -> list[Target]:
    item, heavy = board.spread(f"{IN_PROCESS}: us"), board.spread(f"{step_key('heavy')}: over")
    file = board.spread(f"{LARGE_FILE}: over")
    return [
        Target("a flow's map, filter and batches in process, an item", True, 1.5, " µs", item),
        Target("a flow's heavy step in two workers: speed over a loop's", False, 0.9, "x", heavy),
        Target("a large CSV file by a flow in 256 MiB: speed over pandas in chunks", False, 0.7, "x", file),
    ]
