"""Writes the state diagram into supervision.md, from the machine's own table: python docs/supervision_diagram.py"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from mlports.core.supervision import TRANSITIONS

PAGE = Path(__file__).with_name("supervision.md")
BEGIN, END = "<!-- diagram: begin -->", "<!-- diagram: end -->"


def diagram() -> str:
    """The states and what leads from one to another, for Mermaid; and the table, for those who want all of it."""
    arrows = defaultdict(list)
    for row in TRANSITIONS:
        arrows[row.phase, row.becomes].append(row.event)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for (phase, becomes), events in arrows.items():
        lines.append(f"    {phase} --> {becomes}: {'<br>'.join(events)}")
    lines += [
        "    ended --> [*]",
        "```",
        "",
        "| phase | what happens | what it does | phase after |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row.phase} | {row.event} | {row.does} | {row.becomes} |" for row in TRANSITIONS]
    return "\n".join(lines)


def with_diagram(page: str) -> str:
    """The page with the diagram as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_diagram(PAGE.read_text("utf-8")), "utf-8")
