"""JUnit XML: a test suite a run, a test case a cell, for CI systems that show such results.

What readers agree on is what two published schemas both allow: that of Apache Ant's tasks, and that of
Jenkins' xUnit plugin.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.analysis.exports.findings import Outcome
from harness.core.records import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.exports.findings import Finding, Head

WHOLE_PLAN = "the whole plan"
"""The test case that stands for the run itself: fine when it ended as planned."""

_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (its production 2, Char), and carriage returns, which it would change."""


def junit(
    head: Head,
    findings: Sequence[Finding],
    *,
    table: str,
    warnings: Sequence[str] = (),
    problem: str | None = None,
    unclear_fails: bool = False,
) -> str:
    """Write a run as JUnit XML.

    A cell that got worse is a failure; one in which the contender died an error; one of which nothing can be
    said is skipped, or a failure too. The run itself is a case: an error when it did not end as planned.

    Args:
        head: of the run.
        findings: cell by cell.
        table: the whole table, for the suite's output.
        warnings: for the suite's error output.
        problem: why there are no findings; None when there are.
        unclear_fails: whether `unclear` is a failure.

    Returns:
        An XML document that ends with a newline.
    """
    seconds = head.wall_seconds / (len(findings) + 1)
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", {"name": _clean(head.name), "package": "harness", "id": "0"})
    _properties(suite, head.properties())
    cases = [_of_run(head, problem), *(_of_finding(head, found, fails=unclear_fails) for found in findings)]
    for case in cases:
        case.set("time", f"{seconds:.3f}")
        suite.append(case)
    _text(suite, "system-out", table)
    _text(suite, "system-err", "\n".join([*warnings, *([problem] if problem else [])]))
    suite.attrib |= {
        "hostname": _clean(head.host) or "localhost",
        "timestamp": _utc(head.created),
        "time": f"{head.wall_seconds:.3f}",
        "tests": str(len(cases)),
        **{f"{kind}s": _count(cases, kind) for kind in ("failure", "error")},
        "skipped": _count(cases, "skipped"),
    }
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(_FRAME)


_FRAME = ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")


def _count(cases: Sequence[ET.Element], kind: str) -> str:
    return str(sum(case.find(kind) is not None for case in cases))


def _properties(suite: ET.Element, properties: Mapping[str, str]) -> None:
    parent = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(parent, "property", {"name": _clean(name), "value": _clean(value)})


def _case(name: str, classname: str) -> ET.Element:
    return ET.Element("testcase", {"name": _clean(name), "classname": _clean(classname)})


def _of_run(head: Head, problem: str | None) -> ET.Element:
    case = _case(WHOLE_PLAN, head.name)
    if head.state is not RunState.FINISHED or problem:
        reason = head.stopped or problem or "it did not end"
        _verdict(case, "error", str(head.state), f"{head.state}: {reason}", problem or reason)
    return case


def _of_finding(head: Head, found: Finding, *, fails: bool) -> ET.Element:
    case = _case(found.name, f"{head.name}.{found.contender}")
    if found.outcome is Outcome.CRASHED:
        _verdict(case, "error", "crashed", found.summary, found.row)
    elif found.outcome is Outcome.WORSE or (found.outcome is Outcome.UNCLEAR and fails):
        _verdict(case, "failure", found.verdict, found.summary, found.row)
    elif found.outcome is Outcome.UNCLEAR:
        ET.SubElement(case, "skipped", {"message": _clean(found.summary)})
    return case


def _verdict(case: ET.Element, kind: str, word: str, message: str, text: str) -> None:
    element = ET.SubElement(case, kind, {"type": _clean(word), "message": _clean(message)})
    element.text = _clean(text, lines=True)


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = _clean(text, lines=True)


def _clean(text: str, *, lines: bool = False) -> str:
    """Return text that XML can hold; in an attribute a line."""
    text = _NOT_XML.sub("\ufffd", text.replace("\r\n", "\n"))
    return text if lines else " ".join(text.split())


def _utc(moment: str) -> str:
    """Return an ISO 8601 moment in UTC as JUnit has it, without a time zone; what is none as the epoch."""
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        found = datetime.fromtimestamp(0, UTC)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
