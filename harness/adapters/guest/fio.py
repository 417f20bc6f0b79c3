"""fio/fio.sh, run in a guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.adapters.guest.shell import GuestShell
    from harness.core.model import Cell
    from harness.core.protocols import Execution


def target_of(serial: str) -> str:
    """Return a disk's path in the guest, by the serial that the domain XML gives it."""
    return f"/dev/disk/by-id/virtio-{serial}"


@dataclass(frozen=True, slots=True)
class Fio:
    """Runs fio in one guest.

    Attributes:
        shell: the way into the guest.
        script: the text of fio/fio.sh.
        place: where fio.sh lies in the guest; None: the guest is handed the text each time.
        grace: seconds fio may take beyond ramp and runtime.
    """

    shell: GuestShell
    script: str
    grace: float
    place: str | None = None

    def run(self, cell: Cell, targets: Sequence[str], *, runtime: float, ramp: float) -> Execution:
        """Run fio for a time, on all targets at once.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: the guest did not answer in time.
            Interrupted: the user stopped the run.
        """
        return self._run(fio_arguments(cell, targets, runtime=runtime, ramp=ramp), due=runtime + ramp)

    def fill(self, cell: Cell, targets: Sequence[str], *, due: float) -> Execution:
        """Have fio fill the queues of all targets at once: a job each, of as many requests as its depth.

        Args:
            cell: as for `run`.
            targets: likewise.
            due: seconds it takes at least.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: the guest did not answer in time.
            Interrupted: the user stopped the run.
        """
        arguments = [*_common(cell, targets), "--requests", str(cell.iodepth)]
        return self._run(arguments, due=due)

    def _run(self, arguments: list[str], *, due: float) -> Execution:
        if self.place:
            return self.shell.run(["/bin/sh", self.place, *arguments], due=due, grace=self.grace)
        argv = ["/bin/sh", "-s", "--", *arguments]
        return self.shell.run(argv, stdin=self.script, due=due, grace=self.grace)


def fio_arguments(cell: Cell, targets: Sequence[str], *, runtime: float, ramp: float) -> list[str]:
    """Return the options of fio/fio.sh for a cell; a plan that writes was allowed to when it was made."""
    times = ["--runtime", f"{round(runtime * 1000)}ms", "--ramp", f"{round(ramp * 1000)}ms"]
    return [*_common(cell, targets), *times]


def _common(cell: Cell, targets: Sequence[str]) -> list[str]:
    arguments = [part for target in targets for part in ("--target", target)]
    arguments += ["--rw", cell.rw, "--bs", cell.bs]
    arguments += ["--iodepth", str(cell.iodepth), "--numjobs", str(cell.numjobs)]
    arguments += ["--ioengine", cell.ioengine]
    return arguments if cell.rw in {"read", "randread"} else [*arguments, "--destroy-data"]
