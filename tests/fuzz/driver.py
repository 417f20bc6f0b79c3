"""Running a target for long: coverage-guided by atheris, or at random where there is none."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fuzz.trial import CORPUS, Trial, corpus_of, make_directory
from fuzz.watch import INSTRUMENTED_CPU_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fuzz.target import Target

NO_ATHERIS = (
    "fuzz: there is no atheris here, which guides the search by coverage. It has wheels for CPython 3.11 to "
    "3.13 on Linux (x86_64): pip install -c constraints.txt -e '.[dev,fuzz]'. Without it: --engine random"
)
MUTATOR_FAILED = 3
"""The exit code where the fuzz itself is at fault; no input of it was tried then."""
_MOST_MEMORY = 4 * 2**30
_REPORT_EVERY = 500
_CHAINED = (1, 1, 1, 2, 3)
_POOL = 2000


@dataclass
class Result:
    """What came out of one target.

    Attributes:
        outcomes: how often an input was read, or refused with which error.
        violations: description -> file the input was saved to.
        coverage: edges of ``harness`` that were reached; None without atheris.
    """

    target: str
    title: str
    engine: str
    inputs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    violations: dict[str, str] = field(default_factory=dict)
    coverage: int | None = None

    def save(self, path: Path) -> None:
        """Put it on disk."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2))
        temporary.replace(path)


def load(path: Path) -> Result:
    """Return a result that was saved."""
    found: dict[str, Any] = json.loads(path.read_text())
    return Result(**found)


def limit_memory() -> None:
    """Let a reader that reads without end fail rather than take the host down."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))


class Recorder:
    """Tries inputs, and saves what came out every now and then."""

    def __init__(self, trial: Trial, engine: str, directory: Path, runs: int) -> None:
        self.trial = trial
        self.result = Result(trial.target.name, trial.target.title, engine)
        self._directory, self._runs = directory, runs
        self._began, self._cpu = time.monotonic(), time.process_time()
        self._saved: dict[str, str] = {}

    def try_one(self, data: bytes) -> None:
        """Try one input; inputs beyond the number asked for are left alone."""
        if self.trial.book.inputs >= self._runs:
            return
        self.trial.run(data)
        if self.trial.book.inputs % _REPORT_EVERY == 0 or self.trial.book.inputs == self._runs:
            self.report()

    def report(self) -> None:
        """Save what came out so far, and every input that broke a promise."""
        book, result = self.trial.book, self.result
        for index, (what, data) in enumerate(book.violations.items()):
            if what not in self._saved:
                file = self._directory / f"{result.target}-{index:03d}.input"
                file.write_bytes(data)
                self._saved[what] = str(file)
        result.inputs, result.slowest = book.inputs, round(book.slowest, 3)
        result.outcomes = dict(book.outcomes.most_common())
        result.violations = self._saved
        result.seconds = round(time.monotonic() - self._began, 1)
        result.cpu_seconds = round(time.process_time() - self._cpu, 1)
        (self._directory / f"{result.target}.slowest").write_bytes(book.slowest_input)
        result.save(self._directory / f"{result.target}.json")


def run_random(target: Target, runs: int, seed: int, directory: Path) -> None:
    """Try seeds, kept inputs, and mutations of them and of what came out of those."""
    chance = random.Random(seed)
    pool = [*target.seeds(), *corpus_of(target).values()]
    fixed = len(pool)
    with Trial(target) as trial:
        recorder = Recorder(trial, "random", directory, runs)
        for data in pool[:]:
            recorder.try_one(data)
        seen = set(trial.book.outcomes)
        while trial.book.inputs < runs:
            data = chance.choice(pool)
            for _ in range(chance.choice(_CHAINED)):
                data = target.mutate(data, chance)
            data = data[: target.longest]
            recorder.try_one(data)
            if new := set(trial.book.outcomes) - seen or chance.random() < 0.02:
                seen |= set() if new is True else new
                pool.append(data)
                del pool[fixed : len(pool) - _POOL]
        recorder.report()


def run_atheris(load_target: Callable[[], Target], runs: int, seed: int, directory: Path) -> None:
    """Try inputs that atheris chooses by what they reach; does not return.

    Args:
        load_target: imports the target, once imports are instrumented.
        runs: how many inputs.
        seed: of the search.
        directory: for the result and what broke a promise.
    """
    import atheris

    with atheris.instrument_imports(include=["harness"]):
        target = load_target()
    corpus = make_directory()
    for index, data in enumerate([*target.seeds(), *corpus_of(target).values()]):
        (corpus / f"{index:04d}").write_bytes(data)
    trial = Trial(target, INSTRUMENTED_CPU_SECONDS)
    recorder = Recorder(trial, "atheris", directory, runs)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.1:
            return bytes(atheris.Mutate(data, most))
        try:
            for _ in range(chance.choice(_CHAINED)):
                data = target.mutate(data, chance)
        except Exception:  # noqa: BLE001 - atheris would say what it was, and then wait for ever
            traceback.print_exc()
            os._exit(MUTATOR_FAILED)
        return data[:most]

    arguments = [
        sys.argv[0],
        str(corpus),
        f"-runs={runs + 10}",
        f"-seed={seed}",
        f"-max_len={target.longest}",
    ]
    arguments += ["-timeout=0", "-rss_limit_mb=0", "-print_final_stats=1", "-verbosity=1", "-len_control=0"]
    arguments += ["-detect_leaks=0", "-reload=0", f"-artifact_prefix={directory}/{target.name}-"]
    atheris.Setup(arguments, recorder.try_one, custom_mutator=mutate, internal_libfuzzer=True)
    atheris.Fuzz()


def try_slowest(target: Target, directory: Path) -> Result:
    """Try the slowest input that atheris found as it is read everywhere else; return the result, corrected."""
    saved = directory / f"{target.name}.json"
    result = load(saved)
    with Trial(target) as trial:
        file = directory / f"{target.name}.slowest"
        if broke := trial.run(file.read_bytes()):
            result.violations[broke] = str(file)
        result.slowest = round(trial.book.slowest, 3)
    result.save(saved)
    return result


def coverage_in(log: str) -> int | None:
    """Return the edges that atheris says were reached, from what it printed."""
    found = re.findall(r"\bcov: (\d+)", log)
    return int(found[-1]) if found else None


__all__ = [
    "CORPUS",
    "NO_ATHERIS",
    "Recorder",
    "Result",
    "coverage_in",
    "limit_memory",
    "load",
    "run_atheris",
    "run_random",
    "try_slowest",
]
