"""Converges this host to what an experiment needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.files import make_directory, write_atomic
from harness.adapters.paths import check_paths
from harness.adapters.provision import ProvisionResult, provision
from harness.core.experiment.builds import SourceBuild
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.adapters.playbook_events import TaskEvent
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment
    from harness.shell.declare import Declared


def provision_for(
    declared: Declared,
    workspace: Workspace,
    *,
    on_task: Callable[[TaskEvent], None],
    stop: Stop,
    incremental: bool = False,
    only_builds: bool = False,
) -> ProvisionResult:
    """Converge this host to what the experiment needs, by the same playbook that people run by hand.

    Args:
        declared: the experiment.
        workspace: of this host.
        on_task: hears of each task's start and end.
        stop: the user's wish to end it.
        incremental: build a commit on top of the one that was built before it.
        only_builds: the host is ready but for the builds.

    Raises:
        InputError: a file that the experiment names is not there.
        ProvisionError: a task failed; names task, host and message.
    """
    check_paths(declared.experiment, declared.source, declared.directory)
    done = provision(
        experiment_file=file_for_playbooks(declared, workspace),
        experiment_dir=declared.directory,
        state_dir=workspace.state,
        manifest=workspace.manifest(declared.provisioned_as),
        playbooks=resource_dir("playbooks"),
        inventory=resource_dir("inventory") / "local.yml",
        on_task=on_task,
        cancelled=stop.is_set,
        task_seconds=task_seconds(declared.experiment),
        incremental=incremental,
        only_builds=only_builds,
    )
    workspace.secure()
    return done


def file_for_playbooks(declared: Declared, workspace: Workspace) -> Path:
    """Write the experiment where playbooks read it: it may differ from the user's file (--aa, --blocks)."""
    workspace.secure()
    file = make_directory(workspace.state / "experiments") / f"{declared.provisioned_as}.yml"
    write_atomic(file, declared.text.encode())
    return file


def task_seconds(experiment: Experiment) -> float:
    """Return how long one task of provisioning may take: what is built from source is compiled."""
    from_source = any(isinstance(build, SourceBuild) for build in experiment.builds.values())
    return experiment.timeouts.task_seconds(compiles=from_source)
