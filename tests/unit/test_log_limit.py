"""A guest that never stops talking does not fill the host's disk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.adapters.log_limit import LogLimit

if TYPE_CHECKING:
    from pathlib import Path

SOON = 10.0


def test_who_writes_too_much_is_ended_once_and_named(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "qemu.log", tmp_path / "console.log"
    quiet.touch()
    ended = threading.Event()
    limit = LogLimit([quiet, loud], ended.set, limit_bytes=2 * 2**20, interval=0.01)
    limit.start()
    loud.write_bytes(b"x" * 3 * 2**20)
    assert ended.wait(SOON)
    limit.close()
    error = limit.error("the guest on NEW")
    assert error is not None
    assert error.message == "the guest on NEW was ended: it wrote more than 2 MiB to console.log"
    limit.cut()
    assert loud.stat().st_size == 2 * 2**20
    assert quiet.stat().st_size == 0


def test_who_writes_little_is_left_alone(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_bytes(b"x" * 100)
    ended: list[bool] = []
    limit = LogLimit(
        [console, tmp_path / "absent"], lambda: ended.append(True), limit_bytes=100, interval=0.01
    )
    limit.start()
    threading.Event().wait(0.1)
    limit.close()
    limit.cut()
    assert ended == []
    assert limit.error("the guest") is None
    assert console.stat().st_size == 100


def test_what_never_began_can_be_closed(tmp_path: Path) -> None:
    LogLimit([tmp_path / "x"], lambda: None).close()
