"""The experiment file: typed, validated whole, every error at once."""

from harness.core.experiment.loader import load_experiment
from harness.core.experiment.model import (
    BUILD_KINDS,
    GUEST_FACTOR_PATHS,
    Build,
    Disk,
    Experiment,
    Guest,
    Instructions,
    Matrix,
    Numa,
    PackageBuild,
    PathBuild,
    Placement,
    Poll,
    Pool,
    Protocol,
    Section,
    Ssh,
    Timeouts,
    json_schema,
)
from harness.core.experiment.values import read_percentage

__all__ = [
    "BUILD_KINDS",
    "GUEST_FACTOR_PATHS",
    "Build",
    "Disk",
    "Experiment",
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
    "Ssh",
    "Timeouts",
    "json_schema",
    "load_experiment",
    "read_percentage",
]
