"""What calls cost beyond one service's echo. Every subject by the name that its process is given; imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.dataplane.bare_pipes import BarePipes
from benchmarks.dataplane.digits import Batched, InProcess, Unbatched
from benchmarks.dataplane.services import OneEchoService, OneService, TwoHundredServices
from benchmarks.dataplane.starts import ColdStart, TemplateStart
from benchmarks.recovery.subject import Subject

SUBJECTS: Mapping[str, type[Subject]] = {
    subject.name: subject
    for subject in (
        OneService,
        TwoHundredServices,
        OneEchoService,
        BarePipes,
        InProcess,
        Batched,
        Unbatched,
        ColdStart,
        TemplateStart,
    )
}
