"""Options of the whole test suite."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from harness.adapters.host import locks
from harness.adapters.workspace import NO_CACHE

# A busy host must not fail a property by the clock. Where changes are judged (CI is set), the same inputs are
# tried each time: a change is not refused for what an older one got wrong. Elsewhere new ones are looked for.
settings.register_profile("harness", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("harness")


UNIT = Path(__file__).parent / "unit"
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a directory of this user's own below it
ENOUGH_BYTES = 200 * 2**20  # what the unit tests of the last three runs leave there, and then some


def pytest_configure(config: pytest.Config) -> None:
    """Let unit tests, asked for by themselves, write to memory: on a busy disk they take twice as long.

    Not the others: QEMU opens its disks past the page cache, which memory does not allow.
    """
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    unit_only = all(path == UNIT or UNIT in path.parents for path in asked)
    usable = "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK)
    if unit_only and usable and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES:
        tempfile.tempdir = str(MEMORY)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="write the golden files anew instead of comparing"
    )
    faults = parser.getgroup("faults", "the campaign of faults")
    faults.addoption("--faults", type=int, default=15, metavar="N", help="so many trials")
    faults.addoption("--faults-seed", type=int, default=84, metavar="SEED", help="of the campaign's plan")
    faults.addoption("--faults-only", type=int, metavar="NUMBER", help="repeat this one of the trials")
    faults.addoption("--faults-shard", default="1/1", metavar="K/N", help="only the K-th of N parts of them")
    faults.addoption("--faults-log", type=Path, metavar="FILE", help="append what was found, a line a trial")


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regenerate"))


@pytest.fixture
def host_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of a host that is this test's alone: the real one may be held while tests run."""
    path = tmp_path / "locks" / "harness.lock"
    path.parent.mkdir()
    path.parent.chmod(0o1777)
    monkeypatch.setattr(locks, "HOST_LOCK", path)
    monkeypatch.setattr(locks, "USERS_LOCK", tmp_path / "users.lock")
    return path


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests read what they wrote, and leave nothing in this user's cache."""
    monkeypatch.setenv(NO_CACHE, "1")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let unit tests write without waiting for the disk: what outlives a power cut they cannot tell.

    Those of what happens when fsync fails put their own in its place.
    """
    if "unit" in request.path.parts:
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
