"""Options of the whole test suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy host must not fail a property by the clock.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="write the golden files anew instead of comparing"
    )


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regenerate"))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let unit tests write without waiting for the disk: what outlives a power cut they cannot tell.

    Those of what happens when fsync fails put their own in its place.
    """
    if "unit" in request.path.parts:
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
