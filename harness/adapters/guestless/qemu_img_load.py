"""The load ``qemu-img``: the block layer alone, driven by `qemu-img bench`, without any device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.guestless.to_end import count_to_end
from harness.core.counting.bench import bench_arguments
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.adapters.guestless.callgrind import Valgrind
    from harness.adapters.guestless.virtio_load import LoadResult
    from harness.core.counting.bench import BenchLoad
    from harness.core.protocols import StopSignal


@dataclass(frozen=True, slots=True)
class QemuImg:
    """The qemu-img of a build.

    Attributes:
        program: its path: beside the emulator, in a build directory as in a package's tree.
    """

    program: str

    @classmethod
    def of(cls, emulator: str) -> QemuImg:
        """Return the qemu-img that belongs to an emulator.

        Raises:
            HarnessError: there is none.
        """
        program = Path(emulator).parent / "qemu-img"
        if not program.is_file():
            raise HarnessError(
                f"{program} is not there: load qemu-img counts the qemu-img of each build",
                remedy="run `harness provision EXPERIMENT` again; beside a path build, run `ninja qemu-img`",
            )
        return cls(str(program))


def bench(
    load: BenchLoad,
    qemu_img: QemuImg,
    valgrind: Valgrind,
    directory: Path,
    *,
    stop: StopSignal,
    timeout: float,
) -> LoadResult:
    """Run `qemu-img bench` under callgrind to its end.

    Args:
        load: what it does.
        qemu_img: which one.
        valgrind: the host's.
        directory: a fresh directory for its outputs.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.

    Raises:
        HarnessError: it failed, or took too long.
        Interrupted: the user stopped the run.
    """
    return count_to_end(
        [qemu_img.program, *bench_arguments(load)],
        valgrind,
        directory,
        stop=stop,
        timeout=timeout,
        io_uring=load.disk.uses_io_uring,
    )
