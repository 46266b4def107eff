"""A report in the XML that JUnit made and every CI reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from mlports.testing.conformance.report import Report

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> str:
    """The whole document. A check that never began is one test that erred."""
    from mlports.testing.conformance.report import Outcome, story

    skipped = [result for result in report.results if result.outcome in (Outcome.NOT_TRIED, Outcome.LACKING)]
    suite = ElementTree.Element(
        "testsuite",
        name="mlports check",
        tests=str(len(report.results) or 1),
        failures=str(len(report.failures)),
        errors="1" if report.trouble else "0",
        skipped=str(len(skipped)),
        time=f"{report.seconds:.3f}",
    )
    for result in report.results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"mlports.check.{result.row.topic.replace(' ', '_')}",
            name=result.row.name,
            time=f"{result.seconds:.3f}",
        )
        if result.outcome is Outcome.FAILED:
            told = ElementTree.SubElement(
                case, "failure", message=_clean(f"expected {result.expected}; came {result.came}")
            )
            told.text = _clean("\n".join(story(result)))
        elif result in skipped:
            ElementTree.SubElement(case, "skipped", message=_clean(result.why or f"lacking: {result.came}"))
    if report.trouble:
        case = ElementTree.SubElement(suite, "testcase", classname="mlports.check", name="handshake", time="0")
        ElementTree.SubElement(case, "error", message="nothing could be checked").text = _clean(report.trouble)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
