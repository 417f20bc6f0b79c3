"""What the tests of faults and of guests share: builds, a place of one's own, and cleaning up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import harness
from tiny import NAME, TINY, guests

from harness.adapters.host.locks import host_holder
from harness.adapters.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_guest_left() -> Iterator[None]:
    """Whatever a test does, no guest of its outlives it; a guest that does fails it."""
    yield
    # While somebody else measures, the guest there is theirs.
    left = [] if host_holder() else guests()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == []


@pytest.fixture(scope="session")
def provisioned() -> Path:
    """The manifest of both builds and the guest image, by the command that people use, once a session."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tiny.yml"
        path.write_text(TINY)
        done = harness("provision", str(path), timeout=900)
    assert done.returncode == 0, done.stderr
    return Workspace.at().manifest(NAME)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that QEMU's user may enter, unlike pytest's own, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="ab-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def fresh_state(provisioned: Path, place: Path) -> Iterator[Path]:
    """A state directory that knows the builds, and nothing of this host."""
    state = place / "state"
    manifest = Workspace.at(state).manifest(NAME)
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(provisioned.read_bytes())
    yield state
    shutil.rmtree(Workspace.at(state).embed_root, ignore_errors=True)


@pytest.fixture
def image(provisioned: Path) -> dict[str, str]:
    """The guest image's record."""
    record: dict[str, str] = json.loads(provisioned.read_text())["guest_image"]
    return record
