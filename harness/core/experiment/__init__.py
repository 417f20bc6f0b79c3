"""The experiment file: typed, validated whole, every error at once."""

from harness.core.experiment.builds import (
    BUILD_KINDS,
    Build,
    GitBuild,
    PackageBuild,
    PathBuild,
    SourceBuild,
    TarballBuild,
)
from harness.core.experiment.loader import load_experiment
from harness.core.experiment.model import (
    GUEST_FACTOR_PATHS,
    Disk,
    Experiment,
    Guest,
    Instructions,
    Matrix,
    Numa,
    Placement,
    Poll,
    Pool,
    Protocol,
    Ssh,
    Timeouts,
    json_schema,
)
from harness.core.experiment.section import Section
from harness.core.experiment.values import read_percentage

__all__ = [
    "BUILD_KINDS",
    "GUEST_FACTOR_PATHS",
    "Build",
    "Disk",
    "Experiment",
    "GitBuild",
    "Guest",
    "Instructions",
    "Matrix",
    "Numa",
    "PackageBuild",
    "PathBuild",
    "Placement",
    "Poll",
    "Pool",
    "Protocol",
    "Section",
    "SourceBuild",
    "Ssh",
    "TarballBuild",
    "Timeouts",
    "json_schema",
    "load_experiment",
    "read_percentage",
]
