"""Whole systems: examples, run by their own functions. Every subject by the name of its process; imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.recovery.subject import Subject
from benchmarks.systems.online import Indicators, Monitoring, Recommending

SUBJECTS: Mapping[str, type[Subject]] = {subject.name: subject for subject in (Recommending, Monitoring, Indicators)}
