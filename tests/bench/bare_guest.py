"""The micro guest, booted by hand: QEMU and an agent's socket. What the harness is held against."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from harness.core.guest_tuning import cpu_without, kernel_cmdline
from harness.core.model import Accel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.model import BuildRecord, GuestImage

_PATIENCE_SECONDS = 120.0
MACHINE = [
    "-machine", "q35,accel=tcg,usb=off,hpet=off",
    "-cpu", ",".join(["max", *(f"{name}=off" for name in cpu_without("maximum", Accel.TCG))]),
    "-m", "1024", "-smp", "2", "-display", "none", "-no-user-config", "-nodefaults",
]  # fmt: skip
MEASURED_DISK = [
    "-object", "iothread,id=iothread1",
    "-blockdev", f"null-co,node-name=disk0,size={2**30},read-zeroes=on",
    "-device", "virtio-blk-pci,drive=disk0,serial=disk0,iothread=iothread1,num-queues=1,queue-size=128",
]  # fmt: skip
TARGET = "/dev/disk/by-id/virtio-disk0"


@dataclass
class BareGuest:
    """A guest with the kernel, initramfs and devices of templates/test.xml.j2; a context manager.

    Attributes:
        build: whose QEMU it runs on.
        image: what it boots.
        place: a directory for its socket and its console.
        boot_seconds: from QEMU's start to the agent's first answer.
        exit_seconds: from SIGTERM to its end; once the context is left.
    """

    build: BuildRecord
    image: GuestImage
    place: Path
    boot_seconds: float = 0.0
    exit_seconds: float = 0.0

    def __enter__(self) -> Self:
        began = time.monotonic()
        with (self.place / "qemu.log").open("wb") as said:
            self._qemu = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stderr=said)
        try:
            self._agent = Agent(self.socket, began + _PATIENCE_SECONDS)
            self._agent.ask("guest-ping")
        except BaseException:
            self._qemu.kill()
            self._qemu.wait()
            raise
        self.boot_seconds = time.monotonic() - began
        return self

    def __exit__(self, *_exception: object) -> None:
        self._agent.close()
        began = time.monotonic()
        self._qemu.terminate()
        self._qemu.wait(_PATIENCE_SECONDS)
        self.exit_seconds = time.monotonic() - began

    @property
    def socket(self) -> Path:
        """The agent's socket."""
        return self.place / "agent"

    def run(self, script: str) -> str:
        """Return what a shell script prints."""
        return self._agent.run(script)

    @property
    def argv(self) -> list[str]:
        """QEMU and its arguments."""
        return [
            self.build.emulator, *MACHINE,
            "-kernel", self.image.kernel, "-initrd", self.image.initrd,
            "-append", kernel_cmdline(Accel.TCG, is_micro=True),
            "-serial", f"file:{self.place / 'console.log'}",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={self.socket},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            *MEASURED_DISK,
        ]  # fmt: skip


class Agent:
    """A guest agent, spoken to by its socket.

    Args:
        path: of the socket; waited for.
        deadline: of the monotonic clock.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE_SECONDS)
        while True:
            with contextlib.suppress(OSError):
                self._socket.connect(str(path))
                break
            assert time.monotonic() < deadline, f"no socket {path}"
            time.sleep(0.01)
        self._stream = self._socket.makefile("rw")

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the answer to a command."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        answer = json.loads(self._stream.readline())
        assert "return" in answer, answer
        return answer["return"]

    def run(self, script: str, *, poll: float = 0.05) -> str:
        """Return what a shell script prints in the guest; its exit code has to be 0."""
        started = self.ask("guest-exec", **{"path": "/bin/sh", "arg": ["-c", script], "capture-output": True})
        while not (status := self.ask("guest-exec-status", pid=started["pid"]))["exited"]:
            time.sleep(poll)
        assert status["exitcode"] == 0, status
        return base64.b64decode(status.get("out-data", "")).decode()

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()
