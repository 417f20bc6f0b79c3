"""``harness provision``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import (
    experiment_argument,
    json_option,
    print_json,
    quiet_option,
    state_dir_option,
    stopping_on_signals,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@experiment_argument
@state_dir_option
@quiet_option
@json_option
def command(experiment: Path, *, state_dir: Path | None, quiet: bool, as_json: bool) -> None:
    """Converge this host to what an experiment needs: libvirt, the QEMU builds, the guest image.

    Runs playbooks/provision.yml, the same that `ansible-playbook` runs by hand. What is there already is
    left alone: the second time changes nothing.

    \b
      harness provision fio/quick.yml
    """
    from dataclasses import asdict, replace

    from harness.adapters.manifest import Manifest
    from harness.adapters.workspace import Workspace
    from harness.shell.console import Console
    from harness.shell.declare import declare
    from harness.shell.provisioning import provision_for
    from harness.shell.runner import Runner

    console = Console(quiet=quiet)
    declared = declare(experiment)
    with stopping_on_signals() as stop:
        workspace = Workspace.at(state_dir)
        result = provision_for(declared, workspace, on_task=console.task, stop=stop)
        if declared.experiment.guest.disk_image:
            runner = Runner(workspace, stop, console.say, lambda _event: None, on_task=console.task)
            image = runner.prepare(declared, Manifest(result.builds, None))
            result = replace(result, guest_image=image)
    if as_json:
        print_json(asdict(result))
        return
    for name, build in result.builds.items():
        click.echo(f"{name}: {build.version} ({build.sha256[:12]}) {build.emulator}")
    if result.guest_image:
        image = result.guest_image
        whose = f"{image.distribution or image.source}, " if image.source else ""
        click.echo(f"guest: {whose}Linux {image.kernel_version}, {image.fio_version} ({image.sha256[:12]})")
    click.echo(f"changed={result.changed} ok={result.ok}")
