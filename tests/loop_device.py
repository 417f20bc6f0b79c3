"""Real block devices for tests: loop devices, with a name by id as udev gives to others."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from pathlib import Path

SIZE = 64 * 2**20


def run(*argv: str, text: str | None = None) -> str:
    """Run a program as root; without root or loop devices this fails, and says so."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr} (this test needs root and loop devices)"
    return done.stdout.strip()


class LoopDevice:
    """A loop device, and its name by id as udev would give it."""

    def __init__(self) -> None:
        # In memory: on a busy disk each of the many small writes takes its time.
        self._memory = tempfile.NamedTemporaryFile(dir="/dev/shm")  # noqa: SIM115 - closed below
        self.image = Path(self._memory.name)
        os.truncate(self.image, SIZE)
        self.node = run("losetup", "--find", "--show", str(self.image))
        self.name = Path(self.node).name
        self.by_id = Path("/dev/disk/by-id") / f"ab-test-{uuid.uuid4()}"
        self.by_id.parent.mkdir(parents=True, exist_ok=True)
        self.by_id.symlink_to(self.node)

    def close(self) -> None:
        self.by_id.unlink(missing_ok=True)
        run("losetup", "-d", self.node)
        self._memory.close()

    def put(self, *pieces: tuple[int, bytes]) -> None:
        with Path(self.node).open("r+b") as stream:
            for offset, data in pieces:
                stream.seek(offset)
                stream.write(data)
