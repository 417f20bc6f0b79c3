"""Bundles where run directories are asked for: unpacked while a verb reads them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.results.run_layout import is_bundle
from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Give a run directory for what may be one, or a bundle of one; anything else as it is.

    What is said of the unpacked files is said of the bundle.

    Raises:
        InputError: the bundle is none, is of a newer format, or is damaged.
    """
    if not is_bundle(path):
        yield path
        return
    # Nothing else needs it, and it takes a tenth of a start.
    from harness.adapters.results.unpacking import unpacked

    with unpacked(path) as directory:
        try:
            yield directory
        except InputError as error:
            problems = [
                replace(
                    problem,
                    where=problem.where.replace(str(directory), str(path)),
                    message=problem.message.replace(str(directory), str(path)),
                    remedy=problem.remedy and problem.remedy.replace(str(directory), str(path)),
                )
                for problem in error.problems
            ]
            raise type(error)(problems) from error
        except HarnessError as error:
            error.message = error.message.replace(str(directory), str(path))
            raise
