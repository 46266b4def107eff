"""Nearest centroid: learns from every other line of a table, judges the rest, prints how many it has right."""

import sys

with open(sys.argv[1]) as file:
    rows = [[float(field) for field in line.split(",")] for line in file]

sums: dict[float, list[float]] = {}
counts: dict[float, int] = {}
for *values, label in rows[::2]:
    sums[label] = [a + b for a, b in zip(sums.get(label, [0.0] * len(values)), values, strict=True)]
    counts[label] = counts.get(label, 0) + 1


def distance(values: list[float], label: float) -> float:
    return sum((v - total / counts[label]) ** 2 for v, total in zip(values, sums[label], strict=True))


right = sum(min(sorted(sums), key=lambda label: distance(values, label)) == truth for *values, truth in rows[1::2])
print(f'{{"right": {right}, "of": {len(rows[1::2])}}}')
