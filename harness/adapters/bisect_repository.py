"""git bisect in a repository of its own: the user's is only read, and nothing is checked out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.files import make_directory, write_atomic
from harness.adapters.process import run
from harness.core.bisecting import Answer, Commit
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.experiment.source_values import is_remote_repository
from harness.core.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.adapters.process import Completed
    from harness.core.bisecting import Asked

_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
_OURS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
_STEPS = re.compile(r"\(roughly ([0-9]+) steps?\)")
_FIRST = re.compile(r"^# first \w+ commit: \[([0-9a-f]+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first \w+ commit: \[([0-9a-f]+)\]", re.MULTILINE)
_ONLY_SKIPPED = "# only skipped commits left to test"
_WORDS = {False: {Answer.GOOD: "good", Answer.BAD: "bad"}, True: {Answer.GOOD: "old", Answer.BAD: "new"}}
"""What git calls the answers; of an improvement `bad` would be the wrong word."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a bisection is.

    Attributes:
        commit: the next one to test; None at the end.
        steps_left: about how many more after it; None where git does not say.
        found: at the end, the commit, or all that it may be.
    """

    commit: str | None = None
    steps_left: int | None = None
    found: tuple[str, ...] = ()


def location_of(named: str) -> str:
    """Return a repository as an experiment names it: a URL, or an absolute path.

    Raises:
        InputError: it is a path, and nothing is there.
    """
    if is_remote_repository(named):
        return named
    path = Path(named).expanduser().absolute()
    if not path.is_dir():
        raise InputError.single(
            "--git", f"{path} is not there", "give the path of a git repository, or its URL"
        )
    return str(path)


@dataclass(frozen=True, slots=True)
class BisectRepository:
    """A bare repository that borrows the objects of the user's, or a clone of one from elsewhere.

    Attributes:
        path: where it is.
    """

    path: Path

    @classmethod
    def make(cls, path: Path, location: str) -> BisectRepository:
        """Make it.

        Raises:
            InputError: there is no repository, or it does not answer.
        """
        if is_remote_repository(location):
            done = _git("clone", "--quiet", "--bare", "--", location, str(path))
            if done.returncode:
                raise _refused(location, done, "check the URL, and that this host reaches it")
            # Its configuration has the URL as it was given, password and all.
            _must(_git("-C", str(path), "remote", "remove", "origin"))
            return cls(path)
        asked = ("--git-path", "objects", "--git-path", "shallow")
        done = _git("-C", location, "rev-parse", *asked)
        if done.returncode:
            raise _refused(location, done, "give the path of a git repository that this user may read")
        objects, shallow = (Path(location, line).resolve() for line in done.stdout.splitlines())
        make_directory(path)
        _must(_git("init", "--quiet", "--bare", str(path)))
        write_atomic(path / "objects" / "info" / "alternates", f"{objects}\n".encode())
        if shallow.is_file():
            write_atomic(path / "shallow", shallow.read_bytes())
        return cls(path)

    # What is in it

    def resolved(self, asked: Asked, location: str) -> Asked:
        """Return what is asked with the ends' and paths' meaning settled.

        Raises:
            InputError: with everything that is wrong with them.
        """
        where = str(self.path) if is_remote_repository(location) else location
        ends = {"--good": asked.good_ref, "--bad": asked.bad_ref}
        commits = {option: self._commit(where, ref) for option, ref in ends.items()}
        problems = [
            Problem(
                option, f"there is no commit {ends[option]} in {redacted(location)}", "check its spelling"
            )
            for option, commit in commits.items()
            if commit is None
        ]
        if not problems:
            asked = replace(asked, good=str(commits["--good"]), bad=str(commits["--bad"]))
            problems = self._problems_between(asked)
        if problems:
            raise InputError(problems)
        return asked

    def _commit(self, where: str, ref: str) -> str | None:
        if ref.startswith("-"):
            return None
        done = _git("-C", where, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return done.stdout.strip() if done.returncode == 0 else None

    def _problems_between(self, asked: Asked) -> list[Problem]:
        both = f"{asked.good_ref}..{asked.bad_ref}"
        if asked.good == asked.bad:
            return [Problem(both, "both are the same commit", "name two commits")]
        if self._ask("merge-base", asked.good, asked.bad).returncode:
            return [Problem(both, "they have no commit in common", "name commits of one history")]
        if self._ask("merge-base", "--is-ancestor", asked.bad, asked.good).returncode == 0:
            return [Problem(both, "the bad commit comes before the good one", "exchange --good and --bad")]
        if self.between(asked) == 0:
            touched = f" that touches {', '.join(asked.paths)}" if asked.paths else ""
            return [Problem(both, f"there is no commit between them{touched}", "name other paths, or none")]
        return []

    def between(self, asked: Asked) -> int:
        """Return how many commits lie between the ends, the bad one included."""
        first = ["--first-parent"] if asked.first_parent else []
        argv = ["rev-list", "--count", *first, f"{asked.good}..{asked.bad}", "--", *asked.paths]
        return int(_must(self._ask(*argv)).stdout)

    def describe(self, commit: str) -> Commit:
        """Return who wrote a commit, when, and its subject."""
        said = _must(self._ask("log", "-1", "--format=%H%n%an%n%aI%n%s", commit)).stdout
        found, author, date, subject = said.split("\n", 3)
        return Commit(found, author, date, subject.strip())

    def changes(self, commit: str) -> str:
        """Return what files a commit changed, and how much."""
        argv = ["show", "--stat=90", "--format=", "--first-parent", "-m", commit]
        return _must(self._ask(*argv)).stdout.strip("\n")

    def parent(self, commit: str) -> str:
        """Return a commit's first parent."""
        return _must(self._ask("rev-parse", f"{commit}^1")).stdout.strip()

    # The bisection

    def start(self, asked: Asked) -> Position:
        """Begin; whatever was begun before is forgotten.

        Raises:
            HarnessError: git refuses.
        """
        _must(self._ask("update-ref", "--no-deref", "HEAD", asked.bad))
        _must(self._ask("bisect", "reset"))
        first = ["--first-parent"] if asked.first_parent else []
        terms = ["--term-old=old", "--term-new=new"] if asked.improvement else []
        ends = [asked.bad, asked.good]
        return self._after(
            self._ask("bisect", "start", "--no-checkout", *first, *terms, *ends, "--", *asked.paths)
        )

    def mark(self, commit: str, answer: Answer, *, improvement: bool) -> Position:
        """Tell git of a commit.

        Raises:
            HarnessError: git cannot go on: the change was undone between the ends.
        """
        return self._after(self._ask("bisect", _WORDS[improvement].get(answer, "skip"), commit))

    def log(self) -> str:
        """Return what `git bisect replay` takes."""
        return _must(self._ask("bisect", "log")).stdout

    def _after(self, done: Completed) -> Position:
        log = self._ask("bisect", "log").stdout
        if first := _FIRST.search(log):
            return Position(found=(first[1],))
        if _ONLY_SKIPPED in log:
            possible = dict.fromkeys(_POSSIBLE.findall(log))
            return Position(found=self._oldest_first(list(possible)))
        if done.returncode:
            said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
            raise HarnessError(
                f"git bisect cannot go on: {said}",
                remedy="the change was undone and made again between the ends: name a good commit that is an "
                "ancestor of the bad one",
            )
        commit = _must(self._ask("rev-parse", "--verify", "BISECT_HEAD")).stdout.strip()
        steps = _STEPS.search(done.stdout)
        return Position(commit=commit, steps_left=int(steps[1]) if steps else None)

    def _oldest_first(self, commits: Sequence[str]) -> tuple[str, ...]:
        argv = ["rev-list", "--no-walk=sorted", "--topo-order", "--reverse", *commits]
        return tuple(_must(self._ask(*argv)).stdout.split())

    def _ask(self, *argv: str) -> Completed:
        return _git("-C", str(self.path), *argv)


def _git(*argv: str) -> Completed:
    # Of a hook or a rebase that started us: they would redirect every command.
    unset = [word for name in _OURS for word in ("-u", name)]
    return run(["env", *unset, "git", *argv], env=_ENVIRONMENT, check=False)


def _must(done: Completed) -> Completed:
    if done.returncode:
        raise HarnessError(f"git refused: {done.stderr.strip() or done.stdout.strip()}")
    return done


def _refused(location: str, done: Completed, remedy: str) -> InputError:
    said = redacted(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else "git refused"
    return InputError.single(f"the repository {redacted(location)}", said, remedy)
