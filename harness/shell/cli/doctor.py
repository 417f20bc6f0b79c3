"""``harness doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import json_option, print_json, state_dir_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@state_dir_option
@json_option
def command(*, state_dir: Path | None, as_json: bool) -> int:
    """Say whether this host can measure: libvirt, QEMU, KVM, fio, disk space, vm.max_map_count.

    Each line has what was found and, where something is amiss, what to do. Exit code 1 if a run could not
    work. Nothing is changed, and a run that is going on is named and not disturbed.
    """
    from dataclasses import asdict

    from harness.adapters.workspace import Workspace
    from harness.shell.doctor import Health, examine

    findings = examine(Workspace.at(state_dir))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.health:<7} {finding.what:<{width}}  {finding.found}")
            if finding.remedy:
                click.echo(f"{'':<7} {'':<{width}}  -> {finding.remedy}")
    return 1 if any(finding.health is Health.BROKEN for finding in findings) else 0
