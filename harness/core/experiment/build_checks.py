"""What contradicts itself in a build from source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.experiment.builds import TarballBuild
from harness.core.experiment.finding import Finding
from harness.core.experiment.source_values import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.model import Experiment


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Find tarballs that could be another one tomorrow."""
    for name, build in experiment.builds.items():
        if isinstance(build, TarballBuild) and is_url(build.tarball) and build.checksum is None:
            yield Finding(
                (("builds", name, "checksum"), ("builds", name, "tarball")),
                "a tarball from a URL needs a checksum, so that it stays the same",
                "add checksum: sha256:... (sha256sum of the file you mean)",
            )
