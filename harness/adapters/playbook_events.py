"""What a playbook does, as ansible-runner tells it: tasks, why one failed, how it ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.adapters.progress import Progress

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
class Watcher:
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
