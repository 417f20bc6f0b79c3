"""Fuzz the readers.

Every target runs in a process of its own; the table of what came out is printed, and with --page written.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import driver, page

if TYPE_CHECKING:
    from fuzz.driver import Result
    from fuzz.target import Target

NAMES = ("experiment", "fio", "agent", "facts", "run", "counts", "bundle", "callgrind", "csv", "history")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="inputs each (1000)")
    parser.add_argument("--engine", choices=["atheris", "random"], default="atheris")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="targets at a time (2)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-results"), help="for results and findings")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table into this Markdown page")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--slowest", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.targets if name not in NAMES]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(NAMES)}")
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    return arguments


def main() -> int:
    """Run what the command line asks for; 1 when a promise was broken, 2 when it cannot be run."""
    asked = _arguments()
    if asked.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        print(driver.NO_ATHERIS, file=sys.stderr)
        return 2
    names = asked.targets or list(NAMES)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.slowest:
        from fuzz.targets import TARGETS

        driver.try_slowest(TARGETS[names[0]], asked.out)
        return 0
    if asked.here:
        _here(names[0], asked)
        return 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        results = list(pool.map(lambda name: _in_its_own_process(name, asked), names))
    print(page.table(results))
    if asked.page:
        page.write(asked.page, results)
    for result in results:
        for what, file in result.violations.items():
            print(f"{result.target}: {what}\n  {file}")
    complete = all(result.inputs >= asked.runs for result in results)
    return 0 if complete and not any(result.violations for result in results) else 1


def _here(name: str, asked: argparse.Namespace) -> None:
    driver.limit_memory()

    def load_target() -> Target:
        from fuzz.targets import TARGETS

        return TARGETS[name]

    if asked.engine == "atheris":
        driver.run_atheris(load_target, asked.runs, asked.seed, asked.out)
    else:
        driver.run_random(load_target(), asked.runs, asked.seed, asked.out)


def _in_its_own_process(name: str, asked: argparse.Namespace) -> Result:
    saved = asked.out / f"{name}.json"
    saved.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "fuzz", name, "--here", "--runs", str(asked.runs), "--engine", asked.engine]
    argv += ["--seed", str(asked.seed), "--out", str(asked.out)]
    log = asked.out / f"{name}.log"
    with log.open("wb") as stream:
        code = subprocess.run(argv, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if not saved.exists():
        raise SystemExit(f"fuzz: {name} ended with {code} before it had tried anything; see {log}")
    if asked.engine == "atheris":
        again = [sys.executable, "-m", "fuzz", name, "--slowest", "--out", str(asked.out)]
        subprocess.run(again, check=True)
    result = driver.load(saved)
    result.coverage = driver.coverage_in(log.read_text(errors="replace"))
    result.save(saved)
    return result


if __name__ == "__main__":
    sys.exit(main())
