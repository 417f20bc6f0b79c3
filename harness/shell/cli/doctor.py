"""``harness doctor``."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import PATH, json_option, print_json, state_dir_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.core.quiet.findings import Finding

_WIDTH = 110


@click.command()
@click.argument("experiment", type=PATH, required=False)
@state_dir_option
@json_option
def command(experiment: Path | None, *, state_dir: Path | None, as_json: bool) -> int:
    """Say whether this host can measure, and what makes it noisy.

    First whether a run could work: libvirt, QEMU, KVM, fio, disk space. Then what disturbs a measurement:
    clock, turbo, idle states, NUMA balancing, KSM, huge pages, irqbalance, other guests, swap, load. With an
    EXPERIMENT also how it fits: pins against the topology, how full its disk is, queues; and a placement to
    paste.

    Each line has what was found and, where something is amiss, what it should be, why, and the command that
    puts it right. What could not be read is said to be so. Exit code 1 if a run could not work. Nothing is
    changed, and a run that is going on is named and not disturbed.
    """
    from dataclasses import asdict

    from harness.adapters.host.locks import host_holder
    from harness.adapters.workspace import Workspace
    from harness.core.quiet.findings import Health
    from harness.shell.declare import declare
    from harness.shell.doctor import examine
    from harness.shell.quiet_host import examine_fit, examine_noise

    workspace = Workspace.at(state_dir)
    declared = None if experiment is None else declare(experiment).experiment
    findings = [*examine(workspace), *examine_noise(running=host_holder() is not None)]
    if declared is not None:
        findings += examine_fit(declared, workspace)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for line in _lines(findings):
            click.echo(line)
    return 1 if any(finding.health is Health.BROKEN for finding in findings) else 0


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(finding.what) for finding in findings)
    behind = " " * (width + 11)
    section = None
    for finding in findings:
        if finding.section is not section:
            yield from ([""] if section else [])
            yield f"{finding.section.capitalize()}?"
            section = finding.section
        should = f"; should be {finding.should}" if finding.should else ""
        first, *others = f"{finding.found}{should}".splitlines()
        yield f"{finding.health:<8} {finding.what:<{width}}  {first}"
        yield from (f"{behind}{line}" for line in others)
        if finding.health not in {"note", "broken"} and not finding.remedy:
            continue
        if finding.why:
            yield from _wrapped(finding.why, behind)
        if finding.remedy:
            by_run = f" (or in the experiment: tuning: {finding.tuning})" if finding.tuning else ""
            yield f"{behind}-> {finding.remedy}{by_run}"


def _wrapped(text: str, behind: str) -> list[str]:
    return textwrap.wrap(text, width=_WIDTH, initial_indent=behind, subsequent_indent=behind)
