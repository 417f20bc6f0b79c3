"""Provisions experiments by the real playbooks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.adapters.provision import ProvisionResult, provision

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.playbook_events import TaskEvent

TOP = Path(__file__).resolve().parents[2]


class Provisioner:
    """Provisions experiments into one state directory and remembers the events."""

    def __init__(self, directory: Path, state: Path) -> None:
        self.directory = directory
        self.state = state
        self.manifest = directory / "manifest.json"
        self.events: list[TaskEvent] = []

    def __call__(
        self,
        experiment: dict[str, Any],
        *,
        patience: float = 600,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ProvisionResult:
        file = self.directory / "experiment.yml"
        file.write_text(yaml.safe_dump({"name": "try", **experiment}), encoding="utf-8")
        self.events.clear()
        end = time.monotonic() + patience
        return provision(
            experiment_file=file,
            experiment_dir=self.directory,
            state_dir=self.state,
            manifest=self.manifest,
            playbooks=TOP / "playbooks",
            inventory=TOP / "inventory/local.yml",
            on_task=self.events.append,
            cancelled=lambda: cancelled() or time.monotonic() > end,
        )
