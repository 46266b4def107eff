"""What a flow costs: an item in process, a step in workers, a large file. Imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.flow.large_file import LargeFile
from benchmarks.flow.steps import InProcess, InWorkers
from benchmarks.recovery.subject import Subject

SUBJECTS: Mapping[str, type[Subject]] = {subject.name: subject for subject in (InProcess, InWorkers, LargeFile)}
