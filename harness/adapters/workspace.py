"""Where things are kept on this host: the state directory and what is below it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InputError

_SYSTEM_STATE = Path("/var/lib/qemu-ab-harness")
_LONGEST_EMBED_ROOT = 50
"""libvirt puts UNIX sockets below it, and their whole path may have 107 characters."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The state directory: builds, guest images, disks, and what was found out about the host."""

    state: Path

    @classmethod
    def at(cls, state: Path | None = None) -> Workspace:
        """Return the workspace in a directory, or in the user's own.

        Raises:
            InputError: the path is too long for the sockets below it.
        """
        state = (state or default_state_directory()).absolute()
        if len(str(state / "embed")) > _LONGEST_EMBED_ROOT:
            raise InputError.single(
                str(state),
                f"is too long for the UNIX sockets below it (over {_LONGEST_EMBED_ROOT - 6} characters)",
                "name a shorter one with --state-dir or HARNESS_STATE_DIR",
            )
        return cls(state)

    @property
    def embed_root(self) -> Path:
        """The directory of the embedded libvirt driver."""
        return self.state / "embed"

    @property
    def accel_cache(self) -> Path:
        """Where the host's accelerator is remembered."""
        return self.state / "accel.json"

    @property
    def experience(self) -> Path:
        """Where is kept what runs on this host cost and how much their sessions differed."""
        return self.state / "experience.json"

    @property
    def disks(self) -> Path:
        """Where disk images are made."""
        return self.state / "disks"

    def manifest(self, experiment_name: str) -> Path:
        """Where provisioning says what it made for an experiment."""
        return self.state / "manifests" / f"{experiment_name}.json"


def default_state_directory() -> Path:
    """Return HARNESS_STATE_DIR, or /var/lib for root, or the user's own state directory."""
    if chosen := os.environ.get("HARNESS_STATE_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return _SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "qemu-ab-harness"
