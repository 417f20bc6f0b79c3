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
from harness.core.experiment.machine import Disk, Guest, Numa, Placement, Poll, Ssh
from harness.core.experiment.model import Experiment, json_schema
from harness.core.experiment.protocol import Protocol, Timeouts
from harness.core.experiment.quantities import read_percentage
from harness.core.experiment.section import Section
from harness.core.experiment.workloads import GUEST_FACTOR_PATHS, Instructions, Matrix, Pool

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
