"""Results as JSON, as tables on the terminal, and as the README's table."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.contender import BULK, ONE, ONE_CORE, PLACEMENTS, TWO_CORES, Sample, is_single
from benchmarks.dataplane.tables import dataplane_tables
from benchmarks.flow.tables import flow_tables
from benchmarks.formats import number, spread, time_of
from benchmarks.languages.tables import language_tables
from benchmarks.measure import REFERENCE, STAGES, Board, Entry, Spread
from benchmarks.placement import CORES
from benchmarks.recovery.tables import recovery_tables
from benchmarks.systems.tables import systems_tables
from benchmarks.targets import targets

START_MARK, END_MARK = "<!-- bench:start -->", "<!-- bench:end -->"

MODE_NAMES = {
    ONE: "left to the scheduler",
    ONE_CORE: "pinned to one core",
    TWO_CORES: "pinned to two cores",
    "64": "64 in flight",
    "256": "256 in flight",
    "gather-256": "gather of 256",
    "threads-64": "64 threads",
    "map": "map",
    "map-batch": "map, batch method",
    BULK: "bulk",
}


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, system, load average, and everybody's versions."""
    cpu = platform.processor()
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory_kib = next((int(s.split()[1]) for s in _read("/proc/meminfo").splitlines() if s.startswith("MemTotal")), 0)
    versions = {"python": platform.python_version()}
    distributions = {contender.distribution for contender in CONTENDERS.values()}
    for name in sorted({"uvloop", "msgpack", "numpy"} | {d for d in distributions if d}):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if erlang := _erlang_release():
        versions["erlang/otp"] = erlang
    return {
        "cpu": cpu,
        "cores": len(CORES) or os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _erlang_release() -> str | None:
    erl = shutil.which("erl")
    if erl is None:
        return None
    ask = "io:put_chars(erlang:system_info(otp_release)), halt()."
    return subprocess.run([erl, "-noshell", "-eval", ask], capture_output=True, text=True).stdout or None


def to_json(board: Board, machine: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """All raw rounds, their medians, and the targets' verdicts."""
    results = []
    for entry, samples in board.samples.items():
        latency = board.latency(entry) or (None, None)
        rate = board.rate(entry)
        results.append(
            {
                **dataclasses.asdict(entry),
                "calls_per_s": rate.median if rate else None,
                "p50_us": latency[0],
                "p99_us": latency[1],
                "rounds": [dataclasses.asdict(sample) for sample in samples],
            }
        )
    verdicts = [{**dataclasses.asdict(t), "verdict": t.verdict} for t in targets(board)]
    document = {
        "machine": machine,
        "settings": settings,
        "targets": verdicts,
        "figures": board.figures,
        "rounds": board.rounds,
        "skipped": board.skipped,
        "results": results,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> tuple[Board, dict[str, Any]]:
    """The board and the machine of a file that `to_json` wrote."""
    document = json.loads(text)
    board = Board(figures=document["figures"], skipped=document["skipped"], rounds=document.get("rounds", {}))
    for result in document["results"]:
        entry = Entry(result["stage"], result["contender"], result["payload"], result["mode"])
        board.samples[entry] = [Sample(**sample) for sample in result["rounds"]]
    return board, document["machine"]


def reference_of(entry: Entry, board: Board) -> Entry | None:
    """What an entry's ratio is taken against: the same call by mlports's async API, in the same rounds."""
    mode = entry.mode if entry.stage != "local" or is_single(entry.mode) else "256"
    for candidate in (mode, "64"):
        found = Entry(entry.stage, REFERENCE, entry.payload, candidate)
        if found in board.samples:
            return found
    return None


def terminal_tables(board: Board) -> str:
    """Every figure, heat by heat, then what was skipped and why, then the targets."""
    parts = []
    for (stage, heat), members in groupby(board.samples, key=lambda e: (e.stage, e.heat)):
        rows = []
        for entry in sorted(members, key=lambda e: (_placement(e.mode), -_median(board.rate(e)))):
            reference = reference_of(entry, board)
            ratio = None if reference in (None, entry) else board.speed_ratio(reference, entry)
            latency = board.latency(entry)
            rows.append(
                [
                    CONTENDERS[entry.contender].title,
                    MODE_NAMES[entry.mode] if heat != "arrays" else entry.payload,
                    number(_median(board.rate(entry))),
                    time_of(latency[0]) if latency else "",
                    time_of(latency[1]) if latency else "",
                    "(the reference)" if entry == reference else spread(ratio),
                ]
            )
        title = heat if stage == "local" else f"{heat}, beside {CONTENDERS[stage].title}"
        parts.append(
            title + "\n" + _aligned(["", "", "calls/s or items/s", "p50", "p99", "mlports's speed over its"], rows)
        )
    for table in (
        *dataplane_tables(board),
        *recovery_tables(board),
        *systems_tables(board),
        *flow_tables(board),
        *language_tables(board),
    ):
        parts.append(f"{table.head[0]}\n{_aligned(['', *table.head[1:]], table.rows)}")
    if board.skipped:
        parts.append("skipped\n" + "\n".join(f"  {name}: {reason}" for name, reason in board.skipped.items()))
    rows = [[t.name, t.wanted, spread(t.measured, t.unit), t.verdict] for t in targets(board)]
    parts.append("targets\n" + _aligned(["", "target", "measured", ""], rows))
    return "\n\n".join(parts)


def _placement(mode: str) -> int:
    return PLACEMENTS.index(mode) if is_single(mode) else 0


def _median(value: Spread | None) -> float:
    return value.median if value else 0.0


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def readme_table(board: Board, machine: Mapping[str, Any]) -> str:
    """Markdown: mlports's speed over each contender's, then the targets."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "mlports")
    lines = [
        *_where(machine, versions),
        "The first row is mlports's own figure; every other cell is mlports's speed over that row's: above 1, mlports",
        "is faster. Median of the rounds (least to greatest), both sides in the same round, echoing the same payload",
        "through one worker process; one call at a time, speed is one over the median latency. On one core, on two:",
        "caller and worker pinned there. Left alone: the scheduler's choice, which changes from second to second.",
        "",
    ]
    one = [
        Column("64 B, on one core", "64 B", ONE_CORE),
        Column("64 B, on two cores", "64 B", TWO_CORES),
        Column("64 B, left alone", "64 B", ONE),
        *[Column(payload, payload, ONE) for payload in ("64 KiB", "8 MiB", "8 MiB array", "64 MiB array")],
    ]
    lines += _ratio_table(board, "One call at a time", one, [(name, None) for name in CONTENDERS])
    many: list[tuple[str, str | None]] = [
        (REFERENCE, "256"),
        (REFERENCE, "map"),
        (REFERENCE, "map-batch"),
        ("mlports-blocking", "threads-64"),
        *[(name, mode) for name in CONTENDERS if name != REFERENCE for mode in ("256", BULK)],
    ]
    columns = [Column(payload, payload, "256") for payload in ("64 B", "64 KiB")]
    lines += _ratio_table(board, "256 calls in flight", columns, many)
    tables = (*dataplane_tables(board), *recovery_tables(board), *systems_tables(board), *flow_tables(board))
    for table in tables:
        lines += [table.note, "", *_markdown(table.head, table.rows), ""]
    rows = [[t.name, t.wanted, spread(t.measured, t.unit), t.verdict] for t in targets(board)]
    return "\n".join([*lines, *_markdown(["Target", "", "Measured", ""], rows)])


def language_table(board: Board, machine: Mapping[str, Any]) -> str:
    """Markdown: what a worker costs in each language."""
    lines = []
    for table in language_tables(board):
        lines += [table.note, "", *_markdown(table.head, table.rows), ""]
    return "\n".join([*_where(machine), *lines]).rstrip()


def _where(machine: Mapping[str, Any], versions: str = "") -> list[str]:
    where = f"Measured {machine['date'][:10]} on {machine['cores']} cores of {machine['cpu']}, {machine['system']}"
    return [f"{where},", f"{versions}."] if versions else [f"{where}."]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of the README's table: its heading, its payload, and the mode in which mlports is the reference."""

    heading: str
    payload: str
    mode: str


def _ratio_table(
    board: Board, title: str, columns: Sequence[Column], rows: Sequence[tuple[str, str | None]]
) -> list[str]:
    """One table; a row is a contender and its mode, None for the column's own."""
    shown = []
    for name, own_mode in rows:
        stage = name if name in STAGES else STAGES[0]
        cells = []
        for column in columns:
            reference = Entry(stage, REFERENCE, column.payload, column.mode)
            entry = Entry(stage, name, column.payload, own_mode or column.mode)
            cells.append(
                _own_figure(board, entry) if entry == reference else spread(board.speed_ratio(reference, entry))
            )
        if set(cells) != {"-"}:
            style = "" if own_mode in (None, "256") else f", {MODE_NAMES[own_mode]}"
            shown.append([CONTENDERS[name].title + style, *cells])
    return [*_markdown([title, *(c.heading for c in columns)], shown), ""]


def _own_figure(board: Board, entry: Entry) -> str:
    latency, rate = board.latency(entry), board.rate(entry)
    if latency:
        return f"{time_of(latency[0])} (p99 {time_of(latency[1])})"
    return f"{number(rate.median)} calls/s" if rate else "-"


def write_between_marks(path: Path, table: str) -> bool:
    """Replace what stands between the marks in a file, and nothing else; False when it or they are missing."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    before, start, rest = text.partition(START_MARK)
    _, end, after = rest.partition(END_MARK)
    if not start or not end:
        return False
    path.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")
    return True
