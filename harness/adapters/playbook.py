"""Runs a playbook with ansible-runner, to its end. The only module that imports it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.files import make_directory
from harness.adapters.leftovers import MARK, end_marked
from harness.adapters.playbook_events import TaskEvent, Watcher
from harness.adapters.progress import Progress
from harness.adapters.scratch import scratch
from harness.core.errors import BuildFailedError, Interrupted, ProvisionError
from harness.core.experiment.protocol import TASK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_STUCK = (
    "look at what it waits for (a package lock, a repository that does not answer); a slow host may need "
    "more: timeouts.task in the experiment"
)


def play(
    playbook: str,
    variables: Mapping[str, Any],
    *,
    playbooks: Path,
    inventory: Path | dict[str, Any],
    on_task: Callable[[TaskEvent], None],
    cancelled: Callable[[], bool],
    check: bool = False,
    remedy: str | None = None,
    task_seconds: float = TASK_SECONDS,
) -> Watcher:
    """Run a playbook to its end; ``check``: in check mode.

    Raises:
        ProvisionError: a task failed, or took longer than ``task_seconds``.
        Interrupted: ``cancelled`` said so.
    """
    import ansible_runner

    progress = Progress(task_seconds)
    watcher = Watcher(on_task, progress)
    # Fresh each time and removed: its artifacts hold the whole environment, secrets and all.
    with scratch() as private:
        runner = ansible_runner.run(
            private_data_dir=str(make_directory(private / "runner", 0o700)),
            playbook=str(playbooks.resolve() / playbook),
            inventory=str(inventory.resolve()) if isinstance(inventory, Path) else inventory,
            extravars=dict(variables),
            **({"cmdline": "--check"} if check else {}),
            envvars=_environment(playbooks) | {MARK: str(private)},
            quiet=True,
            event_handler=watcher,
            # Without a callback ansible-runner takes over SIGINT and SIGTERM.
            cancel_callback=lambda: cancelled() or progress.is_stuck(),
            settings={"suppress_env_files": True},
        )
        if runner.status == "canceled":
            # A compiler that goes on would disturb the next measurement.
            end_marked(str(private))
            if progress.is_stuck() and not cancelled():
                raise ProvisionError(progress.words(), remedy=_STUCK)
    _check(runner.status, watcher, playbook, remedy)
    return watcher


def _environment(playbooks: Path) -> dict[str, str]:
    """Return the variables ansible-playbook needs: its configuration, and the venv's programs in PATH."""
    programs = Path(sys.executable).parent
    return {
        "ANSIBLE_CONFIG": str(playbooks.resolve() / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        # Ansible refuses to work under any other encoding.
        "LC_ALL": "C.UTF-8",
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _check(status: str, watcher: Watcher, playbook: str, remedy: str | None) -> None:
    """Raise what a playbook's end deserves."""
    if status == "successful":
        return
    if status == "canceled":
        raise Interrupted("provisioning was interrupted", remedy="the same command goes on where it stopped")
    failure = watcher.failure
    if failure is not None:
        role = f"{failure.role} : " if failure.role else ""
        message = f"task '{role}{failure.task}' failed on {failure.host}: {failure.message}"
        if failure.build_failed:
            raise BuildFailedError(message, failure.message, remedy=remedy)
        raise ProvisionError(message, remedy=remedy)
    said = "\n".join(f"  {line}" for line in watcher.said)
    raise ProvisionError(
        f"ansible-playbook ended with status {status} before any task failed"
        + (f":\n{said}" if said else ""),
        remedy=remedy
        or f"run it by hand: .venv/bin/ansible-playbook -i inventory/local.yml playbooks/{playbook}",
    )


def total(stats: Mapping[str, Any], kind: str) -> int:
    """Return one of the play recap's numbers, over all hosts."""
    numbers: Iterable[int] = stats.get(kind, {}).values()
    return sum(numbers)
