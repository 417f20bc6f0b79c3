"""The run directory reader, and what is made of what it read: samples, comparison, summary."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from test_telemetry_compared import measure

from fakes import new_run
from fuzz.edits import SIGN, Files, edits_of, lay_out, mutator, written
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.results.host_log import read_looks
from harness.adapters.results.run_layout import HOST_LOG
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.analysis.result import Comparison, build
from harness.core import seals
from harness.core.errors import HarnessError
from harness.core.experiment import Experiment, load_experiment
from harness.shell import comparing
from harness.shell.comparing import compare_run
from harness.shell.judging import Judgement
from harness.shell.summary import summarise
from recorded import DOMAIN

if TYPE_CHECKING:
    import pandas as pd

_LOOK = {
    "at": "2026-01-01T00:00:00.000+00:00", "moment": "began", "session": "",
    "values": {"thp": {"": "madvise"}, "governor": {"cpu0": "performance"}}, "tuned": [],
}  # fmt: skip
_CHANGE = {"moment": "after", "session": "000-OLD", "values": {"thp": {"": "always"}}}
_ONLY_SHOWN = ("warnings", "footer", "environment")
_ROW = ("variant", "block", "session", "rw", "bs", "iodepth", "iteration")


@functools.cache
def sound() -> Files:
    """Return the files of a run as it is left: two blocks, two cells, telemetry, domains, a ceiling."""
    with tempfile.TemporaryDirectory() as scratch:
        run = new_run(Path(scratch) / "run", blocks=2)
        for planned in run.plan.sessions:
            (run.session_directory(planned) / "domain.xml").write_text(DOMAIN)
        path = measure(run)
        run.write_ceilings(
            [{"rw": "randread", "bs": "4k", "iodepth": 1, "numjobs": 1, "ioengine": "libaio", "iops": 9e5}]
        )
        first = seals.seal_line(_LOOK, "")
        second = seals.seal_line(_LOOK | _CHANGE, seals.line_seals(first)[0].decode())
        (path / HOST_LOG).write_bytes(first + b"\n" + second)
        run.keep_host_log(seals.line_seals(second)[0].decode())
        return {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        }


@functools.cache
def _sound_frame() -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        lay_out(sound(), [], Path(scratch))
        return read_samples(RunDirectory.open(Path(scratch))).frame


class _Known:
    """Does what was done before once only: an untouched experiment, and the statistics of the same samples.

    Both have tests of their own, and take most of the time.
    """

    def __init__(self) -> None:
        self._experiment: Experiment | None = None
        self._built: dict[str, Comparison] = {}

    def load(self, text: str, source: str) -> Experiment:
        if text.encode() != sound()["experiment.yml"]:
            return load_experiment(text, source)
        self._experiment = self._experiment or load_experiment(text, source)
        return self._experiment

    def build(self, samples: pd.DataFrame, **how: Any) -> Comparison:
        if not samples.equals(_sound_frame()):
            return build(samples, **how)
        key = repr({name: value for name, value in how.items() if name not in _ONLY_SHOWN})
        if key not in self._built:
            self._built[key] = build(samples, **how)
        return self._built[key]


_KNOWN = _Known()


def check(data: bytes, directory: Path) -> str:
    """Read a run directory that something happened to."""
    with (
        mock.patch.object(comparing, "load_experiment", _KNOWN.load),
        mock.patch.object(comparing, "build", _KNOWN.build),
    ):
        return _check(data, directory)


def _check(data: bytes, directory: Path) -> str:
    edits = edits_of(data)
    touched = lay_out(sound(), edits, directory)
    guards = touched if all(edit[0] != SIGN for edit in edits) else set()
    outcomes = [_summary(directory)]
    try:
        found = read_samples(RunDirectory.open(directory))
        frame = found.frame
    except HarnessError as error:
        require(str(directory) in str(error), f"an error that names no file: {error}")
        return outcome_of(error)
    _compare_with_simple_reading(frame, directory)
    try:
        comparison = compare_run(directory, Judgement(), found=found)
    except HarnessError as error:
        outcomes.append(outcome_of(error))
    else:
        outcomes.append(READ)
        for table in comparison.frames.values():
            require(all(table["baseline"].dropna() > 0), "a number that is none")
        # Telemetry and host log that are damaged are left out, with a warning.
        run = RunDirectory.open(directory)
        log = read_looks(directory, run.record.host_log)
        noticed = found.warnings or log.remarks or outcomes[0] != READ
        # A head that says that it is of format 1 promises no checksums.
        require(noticed or not guards or not run.sealed, f"{touched} changed, and nobody noticed")
    return "/".join(dict.fromkeys(outcomes)) if READ not in outcomes else READ


def _summary(directory: Path) -> str:
    try:
        summarise(RunDirectory.open(directory))
    except HarnessError as error:
        return outcome_of(error)
    return READ


def _compare_with_simple_reading(frame: pd.DataFrame, directory: Path) -> None:
    """Hold the samples against what a few lines make of the same files: the plan's cells, fio's numbers."""
    wanted = _simple_rows(directory)
    if wanted is None:
        return
    found = {tuple(row[:-1]): row[-1] for row in frame[[*_ROW, "iops"]].itertuples(index=False, name=None)}
    require(len(found) == len(frame), "one iteration twice")
    require(
        set(found) == set(wanted),
        f"samples of {set(found) ^ set(wanted)} that the plan or a record does not have",
    )
    wrong = {
        key: (found[key], wanted[key]) for key in found if abs(found[key] - wanted[key]) > 1e-9 * wanted[key]
    }
    require(not wrong, f"other IOPS than fio's: {wrong}")


def _simple_rows(directory: Path) -> dict[tuple[Any, ...], float] | None:
    """Return IOPS by row; None where something is odd, so that there may be opinions."""
    rows: dict[tuple[Any, ...], float] = {}
    try:
        plan = json.loads((directory / "plan.json").read_bytes())
        cells = {entry["number"]: entry for entry in plan["iterations"]}
        for session in plan["sessions"]:
            place = directory / "sessions" / f"{session['number']:03d}-{session['variant']}"
            if not (place / "session.json").exists():
                continue
            for record in json.loads((place / "session.json").read_bytes())["iterations"]:
                if record["state"] != "ok" or not record["file"]:
                    continue
                cell = cells[record["number"]]
                key = (
                    session["variant"],
                    session["block"],
                    session["number"],
                    cell["rw"],
                    cell["bs"],
                    cell["iodepth"],
                    cell["repeat"],
                )
                if key in rows:
                    return None
                rows[key] = _simple_iops((place / record["file"]).read_bytes())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return rows


def _simple_iops(data: bytes) -> float:
    jobs = json.loads(data)["jobs"]
    return float(
        sum((job.get(name) or {}).get("iops", 0) for job in jobs for name in ("read", "write", "trim"))
    )


def seeds() -> list[bytes]:
    """Return the sound run, and the simplest things that happen to one."""
    plain: list[list[Any]] = [["flip", name, 0, 0] for name in sound()]
    kinds = [
        ["fifo", "run.json"],
        ["link", "plan.json", "plan.json"],
        ["absent", "environment.json"],
        [SIGN, ""],
    ]
    return [written([]), *(written([edit]) for edit in [*plain, *kinds])]


TARGET = Target("run", "run directory, then compare and show", check, seeds, mutator(sound))
