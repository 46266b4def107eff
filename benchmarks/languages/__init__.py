"""What a worker costs in each language. Every subject by the name that its process is given; imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.languages.worker import LANGUAGES, LanguageWorker, subject_name
from benchmarks.recovery.subject import Subject

SUBJECTS: Mapping[str, type[Subject]] = {
    subject_name(language): type(
        f"{title.title()}Worker",
        (LanguageWorker,),
        {"name": subject_name(language), "title": title, "language": language},
    )
    for language, title in LANGUAGES.items()
}
