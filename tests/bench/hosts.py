"""What a cell costs beyond fio's own time on the host, without a guest: against the loops of others."""

from __future__ import annotations

import json
import shlex
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import others
from bench.figures import Target, Who, Work
from bench.processes import take
from harness.adapters.ceiling import measure_ceiling
from harness.core.model import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BIN = Path(sys.executable).parent
_RUNTIME_S = 1
_FILE_MIB = 64


def measure(*, quick: bool) -> Iterator[Work]:
    """Run the same cells on a file of the host: a shell's loop, the harness, a playbook and bench-fio."""
    cells = [Cell("randread", bs, depth) for bs, depth in product(["4k", "128k"], [1, 8, 16, 32, 64])]
    cells = cells[:2] if quick else cells
    # Not in memory: fio reads past the page cache, which memory does not allow.
    with TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        place = Path(name)
        target = place / "target"
        target.write_bytes(bytes(_FILE_MIB * 2**20))
        took = {
            Who.BARE: _by_shell(cells, target),
            Who.HARNESS: _by_harness(cells, target),
            Who.ANSIBLE: _by_ansible(cells, target, place),
            Who.FIO_PLOT: _by_bench_fio(cells, target, place),
        }
    yield Work(
        "a cell on the host, without a guest, beyond fio's runtime",
        "s",
        {who: seconds / len(cells) - _RUNTIME_S for who, seconds in took.items()},
        [Target(Who.BARE, 1.15), Target(Who.FIO_PLOT, 1.0)],
        f"{len(cells)} cells of {_RUNTIME_S} s on a file. This project: what `harness run --ceiling` uses; "
        f"bench-fio: {others.FIO_PLOT}, its start included, as is the playbook's.",
    )


def _command(cell: Cell, target: Path) -> str:
    return (
        f"fio --name=fio --filename={target} --readonly --allow_file_create=0 --rw={cell.rw} --bs={cell.bs} "
        f"--iodepth={cell.iodepth} --numjobs=1 --ioengine=libaio --direct=1 --time_based "
        f"--runtime={_RUNTIME_S} --group_reporting --randrepeat=0 --norandommap --eta=never "
        "--output-format=json"
    )


def _by_shell(cells: Sequence[Cell], target: Path) -> float:
    loop = "; ".join(f"{_command(cell, target)} >{target}.out" for cell in cells)
    return take(["sh", "-ec", loop]).wall


def _by_harness(cells: Sequence[Cell], target: Path) -> float:
    began = time.monotonic()
    for cell in cells:
        measure_ceiling(cell, target, runtime=_RUNTIME_S, ramp=0)
    return time.monotonic() - began


def _by_ansible(cells: Sequence[Cell], target: Path, place: Path) -> float:
    variables = {
        "ansible_python_interpreter": sys.executable,
        "fio_commands": [_command(cell, target) for cell in cells],
        "place": str(place),
    }
    file = place / "variables.json"
    file.write_text(json.dumps(variables))
    playbook = Path(__file__).with_name("ansible_host.yml")
    return take([f"{_BIN}/ansible-playbook", "-i", "localhost,", "-e", f"@{file}", str(playbook)]).wall


def _by_bench_fio(cells: Sequence[Cell], target: Path, place: Path) -> float:
    programs = others.install_fio_plot(place)
    sizes = dict.fromkeys(cell.bs for cell in cells)
    depths = dict.fromkeys(str(cell.iodepth) for cell in cells)
    argv = f"""
        {programs}/bench-fio --target {target} --type file --size {_FILE_MIB}m --mode randread
        --output {place}/bench-fio --block-size {" ".join(sizes)} --iodepth {" ".join(depths)} --numjobs 1
        --runtime {_RUNTIME_S} --time-based --engine libaio --quiet
    """
    seconds = take(shlex.split(argv)).wall
    # It may leave some out: a cell's time is that of one it measured.
    return seconds / len(list((place / "bench-fio").rglob("*.json"))) * len(cells)
