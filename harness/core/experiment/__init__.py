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
    Protocol,
    Section,
    Timeouts,
    json_schema,
)

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
    "Protocol",
    "Section",
    "Timeouts",
    "json_schema",
    "load_experiment",
]
