"""Converges this machine, or a guest, to what an experiment needs: by playbooks."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapters.manifest import read_manifest
from harness.adapters.playbook import play, total
from harness.adapters.scratch import scratch
from harness.core.experiment.protocol import TASK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.adapters.playbook_events import TaskEvent
    from harness.core.model import BuildRecord, GuestImage


@dataclass(frozen=True, slots=True)
class ProvisionResult:
    """What a provision did, and what is there now.

    Attributes:
        changed: tasks that changed something.
        ok: tasks that ended well, changed or not.
        builds: by variant name.
        guest_image: absent if the experiment brings its own kernel.
    """

    changed: int
    ok: int
    builds: dict[str, BuildRecord]
    guest_image: GuestImage | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a build from source is made of, and where it is or would be.

    Attributes:
        key: the hash over ``parts``; empty where only fetching the repository would tell.
        parts: what goes into it.
        path: its directory.
        complete: whether it is there.
    """

    key: str
    parts: dict[str, Any]
    path: str
    complete: bool


def provision(
    *,
    experiment_file: Path,
    experiment_dir: Path,
    state_dir: Path,
    manifest: Path,
    playbooks: Path,
    inventory: Path,
    on_task: Callable[[TaskEvent], None],
    cancelled: Callable[[], bool],
    task_seconds: float = TASK_SECONDS,
    incremental: bool = False,
    only_builds: bool = False,
) -> ProvisionResult:
    """Run ``provision.yml`` on this machine.

    Args:
        experiment_file: what is to be provisioned.
        experiment_dir: where its patches and tarballs are: beside the user's own file.
        state_dir: where builds and images are kept.
        manifest: the file that will say where they are.
        playbooks: directory of the playbooks.
        inventory: the hosts.
        on_task: hears of each task's start and end.
        cancelled: asked all the time; true stops the playbook.
        task_seconds: after which a task counts as hung.
        incremental: build a commit on top of the one that was built before it.
        only_builds: make the builds and nothing else (``rebuild.yml``): the machine is ready.

    Returns:
        What was done, and the manifest's content.

    Raises:
        BuildFailedError: a build does not compile, or does not start.
        ProvisionError: a task failed or hung; names task, host and message.
        Interrupted: ``cancelled`` said so.
    """
    watcher = play(
        "rebuild.yml" if only_builds else "provision.yml",
        {
            "experiment": str(experiment_file.resolve()),
            "harness_experiment_dir": str(experiment_dir.resolve()),
            "harness_state_dir": str(state_dir.resolve()),
            "harness_manifest": str(manifest.resolve()),
            **({"qemu_source_incremental": True} if incremental else {}),
        },
        playbooks=playbooks,
        inventory=inventory,
        on_task=on_task,
        cancelled=cancelled,
        task_seconds=task_seconds,
    )
    found = read_manifest(manifest)
    return ProvisionResult(
        changed=total(watcher.stats, "changed"),
        ok=total(watcher.stats, "ok"),
        builds=found.builds,
        guest_image=found.guest_image,
    )


def look_for_builds(
    *,
    experiment_file: Path,
    experiment_dir: Path,
    state_dir: Path,
    playbooks: Path,
    inventory: Path,
    on_task: Callable[[TaskEvent], None],
    cancelled: Callable[[], bool],
) -> dict[str, Lookup]:
    """Ask what each of an experiment's builds from source is made of, and make none.

    The same roles answer that would make them, in check mode.

    Args:
        experiment_file: whose builds.
        experiment_dir: where its patches and tarballs are.
        state_dir: where builds are kept.
        playbooks: directory of the playbooks.
        inventory: the hosts.
        on_task: hears of each task's start and end.
        cancelled: asked all the time; true stops the playbook.

    Raises:
        ProvisionError: there is no such ref, file or compiler.
        Interrupted: ``cancelled`` said so.
    """
    with scratch() as directory:
        report = directory / "builds.json"
        play(
            "builds.yml",
            {
                "experiment": str(experiment_file.resolve()),
                "harness_experiment_dir": str(experiment_dir.resolve()),
                "harness_state_dir": str(state_dir.resolve()),
                "harness_report": str(report),
            },
            playbooks=playbooks,
            inventory=inventory,
            on_task=on_task,
            cancelled=cancelled,
            check=True,
        )
        return {name: Lookup(**found) for name, found in json.loads(report.read_bytes()).items()}


def prepare_guest(
    *,
    ssh_options: list[str],
    user: str,
    port: int,
    fio_script: Path,
    agent: bool,
    playbooks: Path,
    on_task: Callable[[TaskEvent], None],
    cancelled: Callable[[], bool],
    task_seconds: float = TASK_SECONDS,
) -> None:
    """Run ``guest.yml`` on a booted guest.

    Args:
        ssh_options: how ssh gets into it: key, pinned host key, socket of the connection that is open.
        user: who logs in.
        port: on the loopback, forwarded to the guest.
        fio_script: fio/fio.sh.
        agent: whether the guest will be reached by its agent.
        playbooks: directory of the playbooks.
        on_task: hears of each task's start and end.
        cancelled: asked all the time; true stops the playbook.
        task_seconds: after which a task counts as hung.

    Raises:
        ProvisionError: a task failed; names task and message.
        Interrupted: ``cancelled`` said so.
    """
    guest = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": user,
        "ansible_ssh_args": shlex.join([*ssh_options, "-o", "ControlMaster=no"]),
        # Not in a home directory: whose user that is, and whether there is one, is the image's business.
        "ansible_remote_tmp": "/tmp/.harness-ansible",  # noqa: S108 - in the guest
    }
    play(
        "guest.yml",
        {"guest_fio_script": str(fio_script.resolve()), "guest_fio_agent": agent},
        playbooks=playbooks,
        inventory={"all": {"hosts": {"guest": guest}}},
        on_task=on_task,
        cancelled=cancelled,
        remedy="correct the image; or have fio in it and write `prepare: false` under guest",
        task_seconds=task_seconds,
    )
