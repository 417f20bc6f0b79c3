"""How long the history takes to answer with 100,000 runs of 10 cells (docs/history.md).

``python tests/unit/history_speed.py 100000 DIR`` files so many made-up runs (10 hosts, 5 experiments) into
DIR/history.duckdb, then times each question as the command line asks it, in a process of its own; and, for
comparison, how long DuckDB takes to read the same numbers from one Parquet file a run.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from history_data import FIRST_NIGHT, night

from harness.adapters.process import run as run_process
from harness.adapters.results.history_store import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.core.history import FiledRun

HOSTS, EXPERIMENTS = 10, 5
CELLS = [f"randread-{bs}-{depth}" for bs in ("4k", "128k") for depth in (1, 8, 16, 32, 64)]
PARQUET_FILES = 10_000


def runs(count: int) -> Iterator[FiledRun]:
    """Return runs: a night of every host and experiment after the other, 1 % of noise."""
    rng = np.random.default_rng(1)
    for number in range(count):
        host, experiment = number % HOSTS, number // HOSTS % EXPERIMENTS
        yield night(
            number,
            dict(zip(CELLS, rng.normal(0, 0.01, len(CELLS)).tolist(), strict=True)),
            host_id=f"{host:016x}",
            host_name=f"kvm{host}",
            experiment=f"e{experiment}",
            comparable=f"{experiment:016x}",
            started=FIRST_NIGHT + timedelta(hours=number // (HOSTS * EXPERIMENTS)),
        )


def timed(name: str, question: Callable[[], object]) -> None:
    """Print how long a question took, wall and CPU time of it and its children."""
    wall, cpu = time.perf_counter(), _cpu()
    question()
    sys.stdout.write(f"{name}: {time.perf_counter() - wall:.2f} s wall, {_cpu() - cpu:.2f} s CPU\n")
    sys.stdout.flush()


def _cpu() -> float:
    import resource

    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def ask(store: HistoryStore, *arguments: str) -> Callable[[], object]:
    """Return what asks the command line."""
    argv = [sys.executable, "-m", "harness", "history", *arguments, "--store", str(store.path)]
    return lambda: run_process(argv, timeout=600)


def parquet(store: HistoryStore, directory: Path) -> None:
    """Write the first runs' numbers as a Parquet file each, and time reading them all."""
    import duckdb

    directory.mkdir(parents=True)
    with duckdb.connect(str(store.path), read_only=True) as connection:
        for number in range(1, PARQUET_FILES + 1):
            connection.execute(
                f"COPY (SELECT * FROM numbers WHERE number = {number}) "  # noqa: S608
                f"TO '{directory}/{number}.parquet' (FORMAT parquet)"
            )
    with duckdb.connect() as connection:
        timed(
            f"all of {PARQUET_FILES} Parquet files, one a run",
            lambda: connection.execute(
                f"SELECT cell, variant, median(value) FROM '{directory}/*.parquet' GROUP BY ALL"  # noqa: S608
            ).fetchall(),
        )


def main(count: int, directory: Path) -> None:
    """Print the figures of docs/history.md."""
    store = HistoryStore(directory / "history.duckdb")
    made = list(runs(count))
    timed(f"file {count} runs at once", lambda: store.add(made))
    sys.stdout.write(f"{store.path.stat().st_size / 2**20:.0f} MiB\n")
    timed("file one more", lambda: store.add([night(count, dict.fromkeys(CELLS, 0.0), host_id="other")]))
    timed(
        "harness --version (Python and click alone)",
        lambda: run_process([sys.executable, "-m", "harness", "--version"]),
    )
    timed("list", ask(store, "list"))
    timed(
        "list, four filters",
        ask(store, "list", "--host", "kvm3", "--experiment", "e1", "--build", "c0", "--since", "2025-01-01"),
    )
    timed("show", ask(store, "show", made[count // 2].run_id))
    timed("report of one host and experiment", ask(store, "report", "--host", "kvm3", "--experiment", "e1"))
    timed(
        "the same as a page",
        ask(store, "report", "--host", "kvm3", "--experiment", "e1", "-o", str(directory / "trends.html")),
    )
    timed("report of everything, 500 trends", ask(store, "report"))
    parquet(store, directory / "parquet")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
