"""Events as lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from mlports.cli.output import harmless, styled

LEVELS = ("debug", "info", "warning", "error")
_LEVEL_STYLES = {"debug": "dim", "warning": "yellow", "error": "red"}
_STYLES = {"ready": "green", "died": "red", "gave_up": "red", "restarting": "yellow", "starting": "dim"}


def is_shown(event: dict[str, Any], least: str) -> bool:
    """Whether people want to see it when `least` is the least level that is logged; stderr always is."""
    if event["event"] == "progress":
        return least == "debug"
    level = event.get("level")
    return level not in LEVELS or LEVELS.index(level) >= LEVELS.index(least)


def as_line(event: dict[str, Any], colour: bool) -> str:
    """An event as a line; several for a text of several."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    who = event.get("service") or event.get("program") or event.get("supervisor") or "mlports"
    if "replica" in event:
        who += f"/{event['replica']}"
    first, *more = harmless(_text(event)).splitlines() or [""]
    style = _LEVEL_STYLES.get(event.get("level", "")) or _STYLES.get(event["event"])
    if style:
        first = styled(first, style, colour)
    lines = [f"{styled(clock, 'dim', colour)} {styled(f'{who:<12}', 'cyan', colour)} {first}"]
    return "\n".join(lines + [f"{'':21} {line}" for line in more])


def _text(event: dict[str, Any]) -> str:
    name, text = event["event"], str(event.get("text", ""))
    if name == "log":
        fields = _fields(event.get("fields", {}).items())
        return f"| {text}" if event.get("level") == "stderr" else f"{event.get('level')}: {text}{fields}"
    if name == "ready":
        bare = ", bare: it did not answer $/hello" if event.get("bare") else ""
        after = f"ready after {event['seconds']:.2f} s" if "seconds" in event else "running"
        return f"{after} (pid {event['pid']}{bare})"
    if name in ("died", "stopped"):
        verdict = _verdict(event.get("verdict", {}), text)
        return f"died: {verdict}" if name == "died" else verdict
    if name == "gave_up":
        return f"gave up: {text}"
    if name == "progress":
        total = f"/{event['total']:g}" if "total" in event else ""
        return f"progress: {event['done']:g}{total} {text}".rstrip()
    if name == "retried":
        return f"{event['calls']} of its calls will be tried again"
    known = {"time", "event", "service", "replica", "program", "supervisor", "text"}
    return f"{name}{f': {text}' if text else ''}" + _fields((k, v) for k, v in event.items() if k not in known)


def _verdict(verdict: dict[str, Any], text: str) -> str:
    """The verdict without the last lines of stderr, which stand above it already."""
    if verdict.get("pid") is None:
        return text
    lost = len(verdict["in_flight"])
    in_flight = f", with {lost} {'request' if lost == 1 else 'requests'} in flight" if lost else ""
    kept = f"; recorded in {verdict['recording']}" if verdict.get("recording") else ""
    return f"{verdict['detail']} after {verdict['uptime']:.1f} s{in_flight} (pid {verdict['pid']}){kept}"


def _fields(items: Iterable[tuple[str, Any]]) -> str:
    return "".join(f" {key}={value}" for key, value in items)
