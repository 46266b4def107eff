"""`mlports status` and `mlports stop`: a look at a running orchestrator, and its end."""

from __future__ import annotations

import sys
from typing import Any

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, resolve
from mlports.cli.output import coloured, put, styled

_STYLES = {
    **dict.fromkeys(("up", "ready", "running", "standby"), "green"),
    **dict.fromkeys(("down", "dead"), "red"),
    **dict.fromkeys(("starting", "stopping", "pausing", "draining"), "yellow"),
}
_COLUMNS = ("SERVICE", "STATE", "PID", "UPTIME", "RESTARTS", "IN FLIGHT", "ANSWERED", "WAITING")


def status(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Show the services and replicas of the running orchestrator."""
    from mlports.control import connect

    with connect(resolve(config)) as client:
        found = client.status()
    if json:
        from mlports.cli.values import write

        put(write(found))
    else:
        put(_table(found, coloured(sys.stdout)))


def stop(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Stop the running orchestrator in order, and wait until it has."""
    from mlports.control import connect

    with connect(resolve(config)) as client:
        pid = client.status()["pid"]
        client.shutdown()
    put(f'{{"stopped": {pid}}}' if json else f"the orchestrator (pid {pid}) has stopped")


def _table(found: dict[str, Any], colour: bool) -> str:
    rows = [list(_COLUMNS)]
    reasons = []
    for name, service in found["services"].items():
        restarts = sum(replica["restarts"] for replica in service["replicas"])
        in_flight = sum(replica["in_flight"] for replica in service["replicas"])
        counts = map(str, (restarts, in_flight, service["answered"], service["waiting"]))
        rows.append([name, service["state"], "", "", *counts])
        for replica in service["replicas"]:
            uptime = "" if replica["uptime"] is None else _span(replica["uptime"])
            counts = map(str, (replica["restarts"], replica["in_flight"], replica["answered"]))
            label = f"  {name}/{replica['replica']}"
            rows.append([label, replica["state"], str(replica["pid"] or ""), uptime, *counts, ""])
        if service["reason"]:
            reasons.append(f"{name} is down: {service['reason']}")
    for name, program in found.get("programs", {}).items():
        uptime = "" if program["uptime"] is None else _span(program["uptime"])
        rows.append([name, program["state"], str(program["pid"] or ""), uptime, str(program["restarts"]), "", "", ""])
    for name, pipeline in found.get("pipelines", {}).items():
        rows.append([name, "pipeline", "", "", "", str(pipeline["under_way"]), str(pipeline["answered"]), ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [f"orchestrator {found['state']}, pid {found['pid']}, {found['config'] or 'made in Python'}", ""]
    for row in rows:
        # Words stand at the left of their column, numbers at the right.
        cells = [f"{c:<{w}}" if n < 2 else f"{c:>{w}}" for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        if row[1] in _STYLES:
            cells[1] = styled(cells[1], _STYLES[row[1]], colour)
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


def _span(seconds: float) -> str:
    """A span of time in two units at most: 4.2s, 3m12s, 5h03m, 2d04h."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"
