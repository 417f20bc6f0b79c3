"""Where things are kept on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.adapters.workspace import Workspace


@pytest.mark.parametrize(
    "state", ["/var/lib/qemu-ab-harness", "/home/somebody/with/a/very/long/path/to/state"]
)
def test_the_agents_socket_fits_wherever_the_state_is(state: str) -> None:
    root = Workspace.at(Path(state)).embed_root
    socket = root / "lib/qemu/channel/target" / f"domain-9999-{'x' * 20}" / "org.qemu.guest_agent.0"
    assert len(str(socket)) <= 107
