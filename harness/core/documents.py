"""An experiment as a document that is changed before it is run: plain mappings and lists."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from harness.core.experiment.source_values import is_on_host, is_url

if TYPE_CHECKING:
    from pathlib import PurePath

    from harness.core.experiment import Experiment


def document_of(experiment: Experiment | dict[str, Any], directory: PurePath | None = None) -> dict[str, Any]:
    """Return an experiment as a document of its own.

    Args:
        experiment: it, or its document.
        directory: where its file is: patches and tarballs relative to that are named whole; None leaves them.
    """
    document = deepcopy(experiment) if isinstance(experiment, dict) else experiment.document()
    if directory is not None:
        for build in document["builds"].values():
            _name_whole(build, directory)
    return document


def _name_whole(build: dict[str, Any], directory: PurePath) -> None:
    if "patches" in build:
        build["patches"] = [str(directory / patch) for patch in build["patches"]]
    if "tarball" in build and not is_url(build["tarball"]) and not is_on_host(build["tarball"]):
        build["tarball"] = str(directory / build["tarball"])
