"""Measure the harness itself, against what would do the same with less, or did it before.

Every figure has its reference in the same run on the same machine: compare ratios, not seconds. Nothing here
passes or fails: the exit code says only whether everything could be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bench import page
from bench.figures import Curve, Suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.figures import Work

NAMES = ("startup", "analysis", "guests", "ssh", "undisturbed", "hosts")
"""A module each, whose `measure` yields what it found; in the order they are run."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: does it still work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table into this Markdown page")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    return arguments


def main() -> int:
    """Measure what the command line asks for."""
    asked = _arguments()
    # A user's Python keeps what it compiled; told not to, it compiles the harness each time, never pandas.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    here, works, curves = machine(), [], []
    for name in asked.names or NAMES:
        measure: Callable[..., Iterable[Work | Curve]] = import_module(f"bench.{name}").measure
        for work in measure(quick=asked.quick):
            print(f"bench: {name}: {work.name}", file=sys.stderr, flush=True)
            if isinstance(work, Curve):
                curves.append(work)
            else:
                works.append(work)
    suite = Suite(here, works, curves)
    print(page.table(suite))
    if curves:
        print(f"\n{page.curves(suite)}")
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(suite.document(), indent=1) + "\n")
    if asked.page:
        page.write(asked.page, suite)
    return 0


def machine() -> dict[str, str]:
    """Return what the figures of this run belong to."""
    return {
        "when": datetime.now(UTC).date().isoformat(),
        "CPUs": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


if __name__ == "__main__":
    sys.exit(main())
