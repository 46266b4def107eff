"""Rounds: which contender runs what, in which order, how often, and the statistics over them."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.contender import BULK, MIB, ONE, SIZES, Sample, Unavailable, in_flight, is_single
from benchmarks.driver import Driver, DriverFailed
from benchmarks.subjects import SUBJECTS

REFERENCE = "mlports"
"""The contender that every other one is compared with."""

STAGES = ("local", "ray", "dask")
"""Ray and Dask keep busy while idle, so each has its turn after the others, beside mlports alone."""

MAX_LIST_BYTES = 128 * MIB
"""What a mode that submits everything at once may submit."""

MIN_SLOT, MAX_SLOT = 0.02, 0.4
"""Seconds that one timed run aims at: below, the clock and the caches decide; above, nothing gets more precise."""

FEWEST_ROUNDS, LONG_HEAT = 3, 25.0
"""A heat that has taken so many seconds makes do with so many rounds: 64 payloads of 8 MiB take a second a run."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing measured: what a contender does with a payload in a mode, and the stage whose rounds it shares."""

    stage: str
    contender: str
    payload: str
    mode: str

    @property
    def heat(self) -> str:
        """Entries of one heat take turns in each round, so only they have ratios."""
        if "array" in self.payload:
            return "arrays"
        return f"{self.payload}, {'one at a time' if is_single(self.mode) else 'many'}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, with the least and the greatest, or with what `middle` has instead."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread | None:
        """None for no values at all."""
        numbers = list(values)
        return Spread(statistics.median(numbers), min(numbers), max(numbers)) if numbers else None

    @staticmethod
    def middle(values: Iterable[float]) -> Spread | None:
        """The median with the quartiles, of at least 3 values: so a few disturbed rounds of many do not show."""
        numbers = list(values)
        if len(numbers) < 3:
            return Spread.of(numbers)
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return Spread(median, low, high)


@dataclass(slots=True)
class Board:
    """Everything that a run measured. `samples[entry]` has one sample a round; `skipped` gives reasons by name.

    `figures[name]` has one value a round, or as many as there are; `rounds[key]` a list of values for each round.
    """

    samples: dict[Entry, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)

    def rate(self, entry: Entry) -> Spread | None:
        """Calls a second."""
        return Spread.of(sample.rate for sample in self.samples.get(entry, ()))

    def latency(self, entry: Entry) -> tuple[float, float] | None:
        """Medians over the rounds of p50 and p99, in microseconds; None for an entry with many in flight."""
        samples = self.samples.get(entry, [])
        p50 = [s.p50_us for s in samples if s.p50_us is not None]
        p99 = [s.p99_us for s in samples if s.p99_us is not None]
        return (statistics.median(p50), statistics.median(p99)) if p50 and p99 else None

    def speed_ratio(self, of: Entry, over: Entry) -> Spread | None:
        """How many times as fast `of` is as `over` (Sample.speed), round by round."""
        pairs = zip(self.samples.get(of, ()), self.samples.get(over, ()), strict=False)
        return Spread.of(a.speed / b.speed for a, b in pairs)

    def drop(self, key: str) -> None:
        """Forget the rounds of a job, whose later ones could not be had: what is left would pair wrongly."""
        for name in [name for name in self.rounds if name.startswith(key + ": ")]:
            del self.rounds[name]

    def spread(self, key: str) -> Spread | None:
        """Over all values of all rounds."""
        return Spread.of(value for values in self.rounds.get(key, ()) for value in values)

    def p99(self, key: str) -> Spread | None:
        """The 99th percentile of all values; low and high are the least and the greatest of the rounds' own."""
        rounds = self.rounds.get(key, [])
        values = [value for values in rounds for value in values]
        if not values:
            return None
        each = [percentile(99, values) for values in rounds]
        return Spread(percentile(99, values), min(each), max(each))

    def ratio(self, of: str, over: str) -> Spread | None:
        """How many times as great the median of `of` is as that of `over`, round by round."""
        return Spread.of(self.ratios(of, over))

    def ratios(self, of: str, over: str) -> list[float]:
        """The same for each round."""
        pairs = zip(self.rounds.get(of, ()), self.rounds.get(over, ()), strict=False)
        return [statistics.median(a) / statistics.median(b) for a, b in pairs]


def percentile(percent: int, values: Iterable[float]) -> float:
    """The least of the values, of which there is one, that so many per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def plan(names: Sequence[str], quick: bool) -> list[Entry]:
    """The entries for these contenders, in the order of stages and heats."""
    local = [name for name in names if name not in STAGES]
    entries = [
        Entry("local", name, payload, mode)
        for payload in SIZES
        for name in local
        for mode in CONTENDERS[name].modes.get(payload, ())
    ]
    for stage in STAGES[1:]:
        if stage not in names:
            continue
        modes = CONTENDERS[stage].modes
        sides = [REFERENCE, stage] if REFERENCE in names else [stage]
        entries += [
            Entry(stage, name, payload, mode)
            for payload in SIZES
            for name in sides
            for mode in modes.get(payload, ())
            if mode in CONTENDERS[name].modes.get(payload, ())
        ]
    if quick:
        # What makes a heat long, as LONG_HEAT says.
        entries = [e for e in entries if e.payload != "8 MiB" or e.mode == ONE]
    order = {heat: place for place, heat in reversed([*enumerate(e.heat for e in entries)])}
    return sorted(entries, key=lambda e: (STAGES.index(e.stage), order[e.heat]))


def fewest_calls(entry: Entry) -> int:
    """The calls below which a run would not do what its mode says."""
    large = SIZES[entry.payload] >= MIB
    if is_single(entry.mode):
        return (3 if SIZES[entry.payload] > 8 * MIB else 5) if large else 20
    if entry.mode.startswith("map"):
        return 8 if large else 64
    return in_flight(entry.mode) * (1 if large else 2)


def most_calls(entry: Entry) -> int:
    """The calls above which a run's lists would fill the memory."""
    if entry.mode.startswith("map") or entry.mode == BULK:
        return MAX_LIST_BYTES // SIZES[entry.payload]
    return 10_000_000


def calibrate(driver: Driver, entry: Entry, slot: float) -> int:
    """Warm the contender up, and find how many calls fill `slot` seconds."""
    calls = fewest_calls(entry)
    while True:
        sample = driver.run(entry.payload, entry.mode, calls)
        fitting = int(sample.rate * slot)
        wanted = max(fewest_calls(entry), min(most_calls(entry), fitting))
        if sample.seconds >= slot / 3 or wanted <= calls:
            return wanted
        calls = min(wanted, calls * 10)


def measure(
    entries: Sequence[Entry], rounds: int, budget: float, board: Board, say: Callable[[str], None] = print
) -> None:
    """Run all entries for so many rounds in about `budget` seconds a stage; results and reasons go to `board`."""
    for stage, members in groupby(entries, key=lambda e: e.stage):
        staged = list(members)
        # A third goes to warming up, and to the runs whose fewest calls outlast their slot.
        slot = max(MIN_SLOT, min(MAX_SLOT, budget / len(staged) / (rounds + 2)))
        with open_drivers(stage, dict.fromkeys(e.contender for e in staged), board, say) as drivers:
            for heat, heat_members in groupby(staged, key=lambda e: e.heat):
                racing = [e for e in heat_members if e.contender in drivers]
                started = time.monotonic()
                if racing:
                    _run_heat(racing, drivers, rounds, slot, board)
                    say(f"  {stage}: {heat}: {len(racing)} figures, {time.monotonic() - started:.1f} s")


@contextlib.contextmanager
def open_drivers(
    stage: str, names: Iterable[str], board: Board, say: Callable[[str], None]
) -> Iterator[dict[str, Driver]]:
    """A driver for each contender or subject; those that cannot be had are told of and left out."""
    with contextlib.ExitStack() as stack:
        drivers: dict[str, Driver] = {}
        for name in names:
            try:
                drivers[name] = stack.enter_context(Driver(name))
            except (Unavailable, DriverFailed) as reason:
                title = (SUBJECTS[name] if name in SUBJECTS else CONTENDERS[name]).title
                board.skipped.setdefault(title, str(reason))
                say(f"  {stage}: without {title}: {reason}")
        yield drivers


def _run_heat(entries: Sequence[Entry], drivers: dict[str, Driver], rounds: int, slot: float, board: Board) -> None:
    calls: dict[Entry, int] = {}
    failed: set[Entry] = set()

    def skip(entry: Entry, reason: Exception) -> None:
        failed.add(entry)
        board.samples.pop(entry, None)
        board.skipped[f"{CONTENDERS[entry.contender].title}, {entry.payload}, mode {entry.mode}"] = str(reason)

    started = time.monotonic()
    for round_number in range(-1, rounds):
        if round_number >= FEWEST_ROUNDS and time.monotonic() - started > LONG_HEAT:
            return
        # Each round begins with another one, so that nobody always runs after the same neighbour's mess.
        first = round_number % len(entries)
        for entry in [*entries[first:], *entries[:first]]:
            driver = drivers[entry.contender]
            if entry in failed:
                continue
            if not driver.alive:
                skip(entry, DriverFailed(f"{entry.contender} had ended in an earlier run"))
                continue
            try:
                if round_number < 0:
                    calls[entry] = calibrate(driver, entry, slot)
                else:
                    sample = driver.run(entry.payload, entry.mode, calls[entry])
                    board.samples.setdefault(entry, []).append(sample)
            except (Unavailable, DriverFailed) as reason:
                skip(entry, reason)
