"""The section ``builds``: where a QEMU comes from.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag

from harness.core.experiment import source_values as sv
from harness.core.experiment import values as v
from harness.core.experiment.bad_value import BadValueError, nearest, shown
from harness.core.experiment.section import Section


class PathBuild(Section):
    """A QEMU binary that is already there."""

    path: v.AbsolutePath = Field(description="The QEMU binary, e.g. /usr/bin/qemu-system-x86_64.")

    @property
    def kind(self) -> str:
        """How the build is made."""
        return "path"


class PackageBuild(Section):
    """QEMU from a distribution package, unpacked into a prefix of its own."""

    package: v.PackageWord = Field(
        description="The package, e.g. qemu-system-x86; it is unpacked into a prefix of its own."
    )
    suite: v.PackageWord | None = Field(
        default=None,
        description="The distribution's suite, e.g. bookworm-backports; default: the host's own.",
    )
    version: v.PackageWord | None = Field(
        default=None, description="The exact package version; default: the newest of the suite."
    )

    @property
    def kind(self) -> str:
        """How the build is made."""
        return "package"


class SourceBuild(Section):
    """What builds from source have in common."""

    patches: sv.Patches = Field(
        default=(), description="Patches applied in this order, named relative to the experiment file."
    )
    configure: sv.ConfigureArguments = Field(
        default=(), description="Further arguments of QEMU's configure, after the harness's own."
    )


class GitBuild(SourceBuild):
    """QEMU built from a commit of a git repository."""

    git: sv.GitLocation = Field(
        description="The repository: a path from / or ~ on the measuring host, or a URL."
    )
    ref: sv.GitRef = Field(
        default="HEAD", description="A branch, tag or commit, or an expression such as v10.0.0~3."
    )

    @property
    def kind(self) -> str:
        """How the build is made."""
        return "git"


class TarballBuild(SourceBuild):
    """QEMU built from a source tarball."""

    tarball: sv.TarballLocation = Field(
        description="The tarball: a path from / or ~ on the measuring host, relative to the experiment file, "
        "or a URL."
    )
    checksum: sv.Checksum | None = Field(
        default=None, description="Its checksum, sha256:...; required for a URL."
    )

    @property
    def kind(self) -> str:
        """How the build is made."""
        return "tarball"


Build = PathBuild | PackageBuild | GitBuild | TarballBuild
BUILD_KINDS: dict[str, type[Build]] = {
    "path": PathBuild,
    "package": PackageBuild,
    "git": GitBuild,
    "tarball": TarballBuild,
}
"""The key that says what kind of build it is, with the type of that kind."""


def _build_kind(value: object) -> str | None:
    if isinstance(value, Build):
        return value.kind
    return next((kind for kind in BUILD_KINDS if kind in value), None) if isinstance(value, dict) else None


def _one_kind(value: object) -> object:
    """Refuse what does not say in exactly one way where the build comes from."""
    if isinstance(value, Build):
        return value
    remedy = f"write {' or '.join(f'{kind}: ...' for kind in BUILD_KINDS)}"
    if not isinstance(value, dict):
        raise BadValueError(f"{shown(value)} where a build is expected", remedy)
    kinds = [kind for kind in BUILD_KINDS if kind in value]
    if len(kinds) > 1:
        raise BadValueError(f"a build is made in one way, here are {' and '.join(kinds)}", "keep one of them")
    if not kinds:
        near = next((near for key in value if (near := nearest(key, BUILD_KINDS))), None)
        meant = f"did you mean {near}? " if near else ""
        raise BadValueError("it does not say where this QEMU comes from", f"{meant}{remedy}")
    return value


BuildChoice = Annotated[
    Annotated[PathBuild, Tag("path")]
    | Annotated[PackageBuild, Tag("package")]
    | Annotated[GitBuild, Tag("git")]
    | Annotated[TarballBuild, Tag("tarball")],
    Discriminator(_build_kind),
    BeforeValidator(_one_kind),
]
