"""Every subject, by the name that its process is given: what is measured, and is no echo. Imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import dataplane, flow, languages, recovery, systems
from benchmarks.recovery.subject import Subject

SUBJECTS: Mapping[str, type[Subject]] = {
    **recovery.SUBJECTS,
    **dataplane.SUBJECTS,
    **languages.SUBJECTS,
    **systems.SUBJECTS,
    **flow.SUBJECTS,
}
