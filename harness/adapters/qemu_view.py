"""What QEMU itself says of the guest it runs, asked through QMP while the guest boots.

Some hundred short questions take longer than a session's start should: they are asked in a thread of their
own while the harness waits for the guest, and all are answered before anything is measured.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from harness.core import qemu_answers
from harness.core.errors import GuestError, HypervisorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.domain import Domain
    from harness.adapters.waiting import Waiter

_CONTAINERS = ("/machine/peripheral", "/machine/peripheral-anon")
_DISK_TYPE = "virtio-blk-"


class QemuView:
    """QEMU's own view of a guest, being read since this was made.

    Args:
        domain: the running guest.
        waiter: ends the wait for it early, and is woken when it is complete.
    """

    def __init__(self, domain: Domain, waiter: Waiter) -> None:
        self._domain = domain
        self._waiter = waiter
        self._facts: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="qemu-view", daemon=True)
        self._thread.start()

    def facts(self, timeout: float) -> dict[str, Any]:
        """Return it complete; what this QEMU did not answer is None.

        Raises:
            GuestError: QEMU did not answer in time, or is gone: nothing may be measured meanwhile.
            Interrupted: the user stopped the run.
        """
        if not self._waiter.until(self._done.is_set, timeout):
            raise GuestError(
                f"QEMU's monitor did not answer within {timeout:.0f} s",
                remedy="a very slow host may need more: set timeouts.agent in the experiment",
            )
        return self._facts

    def close(self) -> None:
        """Ask nothing more."""
        self._stopped.set()

    def _read(self) -> None:
        try:
            self._facts = self._view()
        finally:
            self._done.set()
            self._waiter.wake()

    def _view(self) -> dict[str, Any]:
        cpus = self._listed("query-cpus-fast")
        return {
            **(self._reduced(qemu_answers.version, "query-version") or {"version": None, "package": None}),
            "machine": self._machine(),
            "kvm": self._ask("query-kvm"),
            "cpus": len(cpus) if cpus else None,
            "cpu": self._cpu(cpus[0].get("qom-path")) if cpus else None,
            "block_nodes": self._reduced(qemu_answers.block_nodes, "query-named-block-nodes", flat=True),
            "iothreads": self._reduced(qemu_answers.iothreads, "query-iothreads"),
            "devices": self._disks(),
        }

    def _machine(self) -> str | None:
        name = self._property("/machine", "type")
        return name.removesuffix("-machine") if isinstance(name, str) else None

    def _cpu(self, path: object) -> dict[str, Any] | None:
        if not isinstance(path, str):
            return None
        return {name: self._property(path, name) for name in ("type", "model-id")}

    def _disks(self) -> dict[str, Any] | None:
        """Return every virtio-blk device by the serial it was given, or else by its place."""
        found: dict[str, Any] = {}
        for container in _CONTAINERS:
            listed = self._listed("qom-list", path=container)
            if listed is None:
                return None
            for path in qemu_answers.devices_of(container, listed, _DISK_TYPE):
                properties = self._properties(path)
                name = str(properties.get("serial") or path.rpartition("/")[2])
                found[path if name in found else name] = properties
        return found

    def _properties(self, path: str) -> dict[str, Any]:
        listed = self._listed("qom-list", path=path) or []
        return {name: self._property(path, name) for name in qemu_answers.telling_properties(listed)}

    def _property(self, path: str, name: str) -> Any:
        return self._ask("qom-get", path=path, property=name)

    def _listed(self, command: str, **arguments: Any) -> list[dict[str, Any]] | None:
        """Return an answer that is a list of objects; None where it is something else."""
        answer = self._ask(command, **arguments)
        if not isinstance(answer, list):
            return None
        return [entry for entry in answer if isinstance(entry, dict)]

    def _reduced(self, reduce: Callable[[Any], dict[str, Any]], command: str, **arguments: Any) -> Any:
        # An answer of another shape, from a QEMU of another age, is one that could not be read.
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            return reduce(self._ask(command, **arguments))
        return None

    def _ask(self, command: str, **arguments: Any) -> Any:
        """Return an answer; None where this QEMU does not know the question, or is gone."""
        if self._stopped.is_set():
            return None
        question = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        with contextlib.suppress(HypervisorError):
            return self._domain.monitor(question)
        return None
