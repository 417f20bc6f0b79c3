"""From raw files to the table: against reading and parsing them, and nothing else."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import bare, others, reports
from bench.figures import Curve, Target, Who, Work
from bench.processes import Taken, take, walls_by_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HARNESS = Path(sys.executable).with_name("harness")
_FILES = 100_000
_CURVE = (1000, 10_000, 100_000, 1_000_000)
_QUICKLY = 100
_METRICS = ("iops", "bw", "clat", "p50", "p90", "p95", "p99", "p999", "p9999", "lat")
_BESIDE_FIO_PLOT = 10_000
_FIO_PLOT_PARSE = Path(__file__).with_name("fio_plot_parse.py")


def measure(*, quick: bool) -> Iterator[Work | Curve]:
    """Time `harness compare` of many files: read for the first time, and again."""
    less = _QUICKLY if quick else 1
    repeats = 1 if quick else 3
    with TemporaryDirectory() as directory:
        place = Path(directory)
        files = _FILES // less
        sides = reports.write_trees(place / "trees", files)
        name = f"{files:,} files of fio's output"
        yield from _first_and_again(name, sides, sides, place=place, repeats=repeats)
        yield _all_metrics(files, sides, place, repeats=repeats)
        run = place / "run"
        name = f"{reports.write_run(run, files):,} iterations of a run"
        yield from _first_and_again(name, [run], [run / "sessions"], place=place, repeats=repeats)
        yield _beside_fio_plot(_BESIDE_FIO_PLOT // less, place, repeats=repeats)
        yield from _growth([size // less for size in _CURVE], place, quick=quick)


def _first_and_again(
    name: str, given: Sequence[Path], raw: Sequence[Path], *, place: Path, repeats: int
) -> Iterator[Work]:
    """Compare with nothing kept, then with what was kept."""
    limit, first, again = _by_turns(given, raw, place=place, repeats=repeats)
    peak = take([_HARNESS, "compare", *given, "--no-cache"], memory=True)
    note = f"Medians of {repeats}, by turns; process start to table."
    yield _work(f"{name}: wall", "s", (limit.wall, first.wall), 2.0, note)
    yield _work(
        f"{name}: CPU", "CPU s", (limit.cpu, first.cpu), 2.0, "All processes: less disturbed by others."
    )
    yield Work(
        f"{name}: memory", "MB", {Who.HARNESS: peak.peak_mb}, [Target(None, 1000.0)],
        "The most of all processes together, shared memory once, looked at 20 times a second.",
    )  # fmt: skip
    yield _work(f"{name}, the second time: wall", "s", (limit.wall, again.wall), None, "From the cache.")


def _all_metrics(files: int, sides: Sequence[Path], place: Path, *, repeats: int) -> Work:
    """Compare by every metric that these reports tell, from what `_first_and_again` kept."""
    compare: list[str | Path] = [_HARNESS, "compare", *sides, "--metric", ",".join(_METRICS)]
    wall = min(take(compare, environment=_kept(place)).wall for _ in range(repeats))
    name = f"{files * len(_METRICS):,} samples from the cache: wall"
    return Work(
        name, "s", {Who.HARNESS: wall}, [Target(None, 3.0)],
        f"A sample is one number of one metric: {len(_METRICS)} of each of {files:,} files. Process start to "
        "tables, every file's state looked at; the best of three.",
    )  # fmt: skip


def _kept(place: Path) -> dict[str, str]:
    """Return the environment of a compare that keeps what it read."""
    return {"XDG_CACHE_HOME": str(place / "cache"), "HARNESS_NO_CACHE": ""}


def _by_turns(
    given: Sequence[Path], raw: Sequence[Path], *, place: Path, repeats: int
) -> tuple[Taken, Taken, Taken]:
    compare: list[str | Path] = [_HARNESS, "compare", *given]
    kept = _kept(place)
    take(compare, environment=kept)
    parse: list[str | Path] = [sys.executable, bare.__file__, *raw]
    fresh = [*compare, "--no-cache"]
    took = [(take(parse), take(fresh), take(compare, environment=kept)) for _ in range(repeats)]
    limit, first, again = (
        Taken(statistics.median(one.wall for one in each), statistics.median(one.cpu for one in each))
        for each in zip(*took, strict=True)
    )
    return limit, first, again


def _work(name: str, unit: str, took: tuple[float, float], most: float | None, note: str) -> Work:
    targets = [] if most is None else [Target(Who.BARE, most)]
    return Work(name, unit, dict(zip((Who.BARE, Who.HARNESS), took, strict=True)), targets, note)


def _beside_fio_plot(files: int, place: Path, *, repeats: int) -> Work:
    """Read what fio-plot can hold, as it does before it draws."""
    sides = reports.write_trees(place / "few", files)
    programs = others.install_fio_plot(place)
    directories = sorted({file.parent for side in sides for file in side.rglob("*.json")})
    commands: list[list[str | Path]] = [
        [sys.executable, bare.__file__, *sides],
        [_HARNESS, "compare", *sides, "--no-cache"],
        [programs / "python", _FIO_PLOT_PARSE, *directories],
    ]
    return Work(
        f"{files:,} files of fio's output: wall",
        "s",
        dict(zip((Who.BARE, Who.HARNESS, Who.FIO_PLOT), walls_by_turns(commands, repeats), strict=True)),
        [Target(Who.FIO_PLOT, 1.0)],
        f"{others.FIO_PLOT}: its reader and parser alone, without a chart; it holds all files at once.",
    )


def _growth(sizes: Sequence[int], place: Path, *, quick: bool) -> Iterator[Work | Curve]:
    """Compare more and more files, the first time and again."""
    kept = _kept(place)
    rows: list[tuple[int, float, float, float, float]] = []
    for size in sizes:
        with TemporaryDirectory(dir=place) as name:
            sides = reports.write_trees(Path(name), size)
            compare: list[str | Path] = [_HARNESS, "compare", *sides]
            fresh = take(compare, environment=kept)
            tries = [take(compare, environment=kept) for _ in range(1 if quick else 3)]
            again = min(tries, key=lambda taken: taken.wall)
            rows.append((size, fresh.wall, fresh.cpu, again.wall, again.cpu))
    yield Curve(
        "harness compare of more and more files",
        ("files", "first, s", "first, CPU s", "again, s", "again, CPU s"),
        rows,
        slope=_slope([(row[0], row[2]) for row in rows]),
        note="The slope is of logarithms, first CPU seconds over files, of the two largest: 1 is linear.",
    )
    yield Work(
        f"{sizes[-1]:,} files from the cache: wall", "s", {Who.HARNESS: rows[-1][3]}, [Target(None, 3.0)],
        "One metric of each. Process start to table, every file's state looked at; the best of three.",
    )  # fmt: skip


def _slope(points: Sequence[tuple[int, float]]) -> float:
    (few, little), (many, much) = points[-2:]
    return math.log(much / little) / math.log(many / few)
