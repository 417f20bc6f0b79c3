"""One night: the newest commit of a branch against a pinned baseline and the night before.

The steps are the harness's own verbs, each in a process of its own: a night is what anybody can do by hand,
and one step that dies takes no other with it.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.adapters.files import make_directory, write_atomic, write_json
from harness.adapters.host.locks import Patience, host_alone
from harness.adapters.nights import Nights, commit_of
from harness.adapters.process import attached
from harness.adapters.results.store import is_run_directory
from harness.core.errors import BusyError, InputError, Interrupted
from harness.core.nightly import LAST_NIGHT, experiment_of_tonight, expired, followed, worst
from harness.core.units import format_duration, format_size
from harness.shell.declare import declare

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from harness.core.protocols import StopSignal

_STEP_SECONDS = 900
"""For what comes after the measuring: a report, an export, an entry in the history."""
_GRACE_SECONDS = 120
"""For a run to end its guest and keep what it has."""
_ANOTHER_WAITS = "1h"
_MEASURED = {0, 3, 4}
"""Exit codes of a run that came to its end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done every night.

    Attributes:
        experiment: the user's file.
        follow: the build of it that comes from a branch.
        directory: where the nights are kept.
        state: the state directory: builds, guest images, history.
        limit_seconds: a run that takes longer is ended.
        fail_on: the verdicts that make a night fail.
        skip_unchanged: whether a night is left out when the branch has not moved.
        keep: how old a night may become.
        keep_bytes: what all nights may take together.
    """

    experiment: Path
    follow: str
    directory: Path
    state: Path
    limit_seconds: float
    fail_on: tuple[str, ...]
    skip_unchanged: bool
    keep: timedelta | None
    keep_bytes: int | None


@dataclass(frozen=True, slots=True)
class Nightly:
    """Does a job.

    Attributes:
        stop: the wish to end.
        say: told, in a sentence, what happens.
    """

    job: Job
    stop: StopSignal
    say: Callable[[str], None]

    def run(self) -> int:
        """Measure, file, report, tidy up, and return the night's exit code.

        Raises:
            HarnessError: the night could not begin.
        """
        job = self.job
        declared = declare(job.experiment)
        follow = followed(declared.experiment, job.follow, declared.source)
        nights = Nights(job.directory)
        with nights.alone():
            commit, last = commit_of(follow), self._last_commit(nights)
            if commit == last and job.skip_unchanged:
                self.say(f"{follow.ref} still stands at {commit[:12]}, which was measured: nothing to do")
                return 0
            night = nights.begin()
            text = experiment_of_tonight(
                declared.experiment, follow, directory=declared.directory, commit=commit, last=last
            )
            write_atomic(night / "experiment.yml", text.encode())
            code = self._measure(night)
            codes = [code]
            if is_run_directory(night / "run"):
                measured = code in _MEASURED
                if measured:
                    nights.keep_commit(commit, night)
                codes += self._file(night, measured=measured, beside_last=last not in {None, commit})
            codes.append(self._step(["builds", "prune", *self._older, *self._state]))
            code = worst(codes)
            write_json(night / "night.json", {"commit": commit, "last": last, "exit_code": code})
            self._tidy(nights)
        return code

    def _last_commit(self, nights: Nights) -> str | None:
        """Return what the last night measured; not to know it costs a comparison, not every night to come."""
        try:
            return nights.last_commit()
        except InputError as error:
            self.say(f"{error}: tonight is measured as the first night is, without {LAST_NIGHT}")
            return None

    def _measure(self, night: Path) -> int:
        self._wait_for_the_host()
        arguments = ["run", str(night / "experiment.yml"), "--run-dir", str(night / "run"), "--quiet"]
        # Others may wait for the host as well, and be sooner.
        arguments += ["--wait", _ANOTHER_WAITS]
        code = self._verb(
            [*arguments, *self._fail_on, *self._state], seconds=self.job.limit_seconds, grace=_GRACE_SECONDS
        )
        if self.stop.is_set():
            raise Interrupted("stopped: the night is not measured to its end")
        if code is None:
            self.say(f"ended: it took longer than {format_duration(self.job.limit_seconds)} (--limit)")
        return 1 if code is None or code < 0 else code

    def _wait_for_the_host(self) -> None:
        """Wait while somebody else measures here: a night is not lost to a run that ends in an hour."""
        patience = Patience(self.job.limit_seconds, self.say, self.stop.is_set)
        # Whoever is still there after that is named by the run itself, which is refused.
        with contextlib.suppress(BusyError), host_alone(patience):
            pass

    def _file(self, night: Path, *, measured: bool, beside_last: bool) -> list[int]:
        """File the run, report it, and compare it with the night before; one that fails stops no other.

        Of a run that was not measured to its end what there is of it is shown; the history takes whole ones.
        """
        run = str(night / "run")
        steps = [
            *([["history", "add", run, *self._state]] if measured else []),
            ["report", run, "-o", str(night / "report.html")],
            ["export", run, "--format", "junit", "-o", str(night / "junit.xml")],
            ["export", run, "--format", "markdown", "-o", str(night / "table.md")],
        ]
        if beside_last:
            self.say("against the night before:")
            pair = ["--baseline", LAST_NIGHT, "--contender", self.job.follow]
            steps.append(["compare", run, *pair, *self._fail_on])
        return [self._step(step) for step in steps]

    def _step(self, arguments: list[str]) -> int:
        """Do what comes beside the measuring; what hangs, is killed or refuses has failed.

        That the experiment is wrong (2) only the run can say: what it left is not what the user wrote.
        """
        code = self._verb(arguments)
        return 1 if code is None or code < 0 or code == InputError.exit_code else code

    def _verb(
        self, arguments: list[str], *, seconds: float = _STEP_SECONDS, grace: float = 5.0
    ) -> int | None:
        argv = [sys.executable, "-m", "harness", *arguments]
        return attached(argv, stopped=self.stop.is_set, timeout=seconds, grace=grace)

    @property
    def _fail_on(self) -> list[str]:
        return [word for verdict in self.job.fail_on for word in ("--fail-on", verdict)]

    @property
    def _older(self) -> list[str]:
        """Builds go with the nights that measured them."""
        return [] if self.job.keep is None else ["--older-than", f"{self.job.keep.days}d"]

    @property
    def _state(self) -> list[str]:
        return ["--state-dir", str(self.job.state)]

    def _tidy(self, nights: Nights) -> None:
        """Remove the nights that are too old, or the oldest where all take too much."""
        make_directory(nights.path)
        gone = expired(
            nights.all(), now=datetime.now(UTC), keep=self.job.keep, keep_bytes=self.job.keep_bytes
        )
        for night in gone:
            nights.remove(night)
            self.say(f"removed the night {night.name} ({format_size(night.size_bytes)})")
