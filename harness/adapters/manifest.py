"""What provisioning left behind for an experiment: the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, InputError
from harness.core.model import BuildRecord, GuestImage

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is provisioned for an experiment.

    Attributes:
        builds: by variant name.
        guest_image: absent if the experiment brings its own kernel.
    """

    builds: dict[str, BuildRecord]
    guest_image: GuestImage | None


def read_manifest(path: Path) -> Manifest:
    """Return what the last provision of an experiment left behind.

    Args:
        path: the manifest.

    Returns:
        The builds and the guest image.

    Raises:
        InputError: there is no manifest.
        HarnessError: it is torn, or written by something else.
    """
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError.single(
            str(path), "nothing is provisioned for this experiment", "run `harness provision EXPERIMENT`"
        ) from None
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _torn(path, str(error)) from None
    try:
        builds = {name: BuildRecord.read({"name": name, **record}) for name, record in raw["builds"].items()}
        image = None if raw["guest_image"] is None else GuestImage(**raw["guest_image"])
    except (AttributeError, KeyError, TypeError) as error:
        raise _torn(path, f"{type(error).__name__}: {error}") from None
    return Manifest(builds, image)


def _torn(path: Path, why: str) -> HarnessError:
    return HarnessError(
        f"{path} is no manifest: {why}", remedy="remove it and run `harness provision EXPERIMENT` again"
    )
