"""ansible-runner: converges this machine to what an experiment needs; the only module that imports it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.files import make_directory
from harness.adapters.leftovers import MARK, end_marked
from harness.adapters.progress import Progress
from harness.adapters.scratch import scratch
from harness.core.errors import BuildFailedError, HarnessError, InputError, Interrupted, ProvisionError
from harness.core.experiment.model import TASK_SECONDS
from harness.core.model import BuildRecord, GuestImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_STUCK = (
    "look at what it waits for (a package lock, a repository that does not answer); a slow host may need "
    "more: timeouts.task in the experiment"
)
SHOWN_LINES = 5
"""How many of the last lines of a failed task's output an error shows."""


class TaskStatus(StrEnum):
    """How far a task got on a host."""

    STARTED = "started"
    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One step of a playbook.

    Attributes:
        host: where; empty for a task that starts on all hosts.
        role: the role it belongs to; empty for a playbook's own tasks.
        task: the task's name.
        status: how far it got.
        message: why it failed; empty otherwise.
        made: how it made a build (``from nothing``); empty where it made none.
        build_failed: whether the source of a build is to blame.
    """

    host: str
    role: str
    task: str
    status: TaskStatus
    message: str = ""
    made: str = ""
    build_failed: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is provisioned for an experiment.

    Attributes:
        builds: by variant name.
        guest_image: absent if the experiment brings its own kernel.
    """

    builds: dict[str, BuildRecord]
    guest_image: GuestImage | None


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


_STATUS = {
    "playbook_on_task_start": TaskStatus.STARTED,
    "runner_on_ok": TaskStatus.OK,
    "runner_on_skipped": TaskStatus.SKIPPED,
    "runner_on_failed": TaskStatus.FAILED,
    "runner_on_unreachable": TaskStatus.FAILED,
}


def task_event(event: Mapping[str, Any]) -> TaskEvent | None:
    """Return what one of ansible-runner's events says of a task, or None if it is of no interest."""
    status = _STATUS.get(str(event.get("event")))
    if status is None:
        return None
    data = event.get("event_data") or {}
    result = data.get("res") or {}
    if status is TaskStatus.FAILED and data.get("ignore_errors"):
        status = TaskStatus.OK
    if status is TaskStatus.OK and result.get("changed"):
        status = TaskStatus.CHANGED
    return TaskEvent(
        host=str(data.get("host") or ""),
        role=str(data.get("role") or ""),
        task=str(data.get("task") or ""),
        status=status,
        message=failure_message(result) if status is TaskStatus.FAILED else "",
        made=str(result.get("made") or ""),
        build_failed=status is TaskStatus.FAILED and bool(result.get("build_failed")),
    )


def failure_message(result: Mapping[str, Any]) -> str:
    """Return why a task failed: the module's message and the last lines of what the command said."""
    parts = [str(result.get("msg") or "failed without a message").strip()]
    for stream in ("stderr", "module_stderr", "stdout", "module_stdout"):
        said = str(result.get(stream) or "").strip()
        if said and said not in parts[0]:
            parts += [f"  {line}" for line in said.splitlines()[-SHOWN_LINES:]]
            break
    return "\n".join(parts)


@dataclass(slots=True)
class _Watcher:
    """Hears ansible-runner's events while the playbook runs."""

    on_task: Callable[[TaskEvent], None]
    progress: Progress
    failure: TaskEvent | None = None
    # Of a loop, why its first item failed: the task's own message is no more than that the loop ended.
    failed_item: str = ""
    # The play recap: ansible-runner's own waits for event files, which are not kept.
    stats: Mapping[str, Any] = field(default_factory=dict)
    # What Ansible says outside of any task: broken playbooks, unreadable inventories.
    said: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_LINES))

    def __call__(self, event: dict[str, Any]) -> bool:
        """Take one event; False: ansible-runner need not keep it."""
        step = task_event(event)
        self.progress.step()
        if step is not None:
            name = f"{step.role} : {step.task}" if step.role else step.task
            if step.status is TaskStatus.STARTED:
                self.progress.begins(name)
            else:
                self.progress.ends(f"{name} on {step.host}", step.status)
            if step.status is TaskStatus.STARTED:
                self.failed_item = ""
            if step.status is TaskStatus.FAILED:
                step = replace(step, message=self.failed_item or step.message)
                self.failure = self.failure or step
            self.on_task(step)
        elif event.get("event") == "runner_item_on_failed":
            self.failed_item = self.failed_item or failure_message(event["event_data"].get("res") or {})
        elif event.get("event") == "playbook_on_stats":
            self.stats = event.get("event_data") or {}
        elif event.get("event") in {"verbose", "error"}:
            self.said.extend(line for line in str(event.get("stdout") or "").splitlines() if line.strip())
        return False


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
    watcher = _play(
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
        changed=_total(watcher.stats, "changed"),
        ok=_total(watcher.stats, "ok"),
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
        _play(
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
    _play(
        "guest.yml",
        {"guest_fio_script": str(fio_script.resolve()), "guest_fio_agent": agent},
        playbooks=playbooks,
        inventory={"all": {"hosts": {"guest": guest}}},
        on_task=on_task,
        cancelled=cancelled,
        remedy="correct the image; or have fio in it and write `prepare: false` under guest",
        task_seconds=task_seconds,
    )


def _play(
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
) -> _Watcher:
    """Run a playbook to its end; ``check``: in check mode.

    Raises:
        ProvisionError: a task failed, or took longer than ``task_seconds``.
        Interrupted: ``cancelled`` said so.
    """
    import ansible_runner

    progress = Progress(task_seconds)
    watcher = _Watcher(on_task, progress)
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


def _check(status: str, watcher: _Watcher, playbook: str, remedy: str | None) -> None:
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


def _total(stats: Mapping[str, Any], kind: str) -> int:
    """Return one of the play recap's numbers, over all hosts."""
    numbers: Iterable[int] = stats.get(kind, {}).values()
    return sum(numbers)


def read_manifest(path: Path) -> Manifest:
    """Return what the last provision of an experiment left behind.

    Args:
        path: the manifest.

    Returns:
        The builds and the guest image.

    Raises:
        InputError: there is no manifest.
        HarnessError: it is torn, or written by something else.
    """
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError.single(
            str(path), "nothing is provisioned for this experiment", "run `harness provision EXPERIMENT`"
        ) from None
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _torn(path, str(error)) from None
    try:
        builds = {name: BuildRecord.read({"name": name, **record}) for name, record in raw["builds"].items()}
        image = None if raw["guest_image"] is None else GuestImage(**raw["guest_image"])
    except (AttributeError, KeyError, TypeError) as error:
        raise _torn(path, f"{type(error).__name__}: {error}") from None
    return Manifest(builds, image)


def _torn(path: Path, why: str) -> HarnessError:
    return HarnessError(
        f"{path} is no manifest: {why}", remedy="remove it and run `harness provision EXPERIMENT` again"
    )
