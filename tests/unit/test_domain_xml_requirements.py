"""What libvirt or QEMU cannot do is refused before the run, with the version it needs."""

from __future__ import annotations

import pytest

import domain_goldens
from harness.core.capabilities import qemu_version, requirements, unmet

SPECS = domain_goldens.golden_specs()
BOOKWORM = (9, 0, 0)
OLD, NEW = (7, 2, 22), (10, 0, 2)


@pytest.mark.parametrize(
    ("golden", "libvirt", "qemu", "messages"),
    [
        ("null-co", BOOKWORM, OLD, []),
        ("null-co", (7, 0, 0), OLD, ["CPU mode maximum needs libvirt 7.1.0, here is 7.0.0"]),
        ("polling", BOOKWORM, NEW, ["polling of IOThreads (<poll>) needs libvirt 9.4.0, here is 9.0.0"]),
        ("polling", (9, 4, 0), OLD, []),
        # null-co's mapping goes past libvirt.
        ("null-co-tuned", BOOKWORM, OLD, ["needs QEMU 9.0, OLD is 7.2.22"]),
        ("null-co-tuned", BOOKWORM, NEW, []),
        (
            "file-mapping",
            BOOKWORM,
            OLD,
            ["needs libvirt 10.0.0, here is 9.0.0", "needs QEMU 9.0, OLD is 7.2.22"],
        ),
        ("file-mapping", (10, 0, 0), (9, 0), []),
        ("file-path", (7, 8, 0), (4, 2, 1), ["io_uring needs QEMU 5.0, OLD is 4.2.1"]),
        ("nvme", BOOKWORM, OLD, []),
    ],
)
def test_versions(golden: str, libvirt: tuple[int, ...], qemu: tuple[int, ...], messages: list[str]) -> None:
    problems = unmet(requirements(SPECS[golden]), libvirt, qemu, build="OLD")
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert message in problem.message
        assert problem.remedy


def test_the_setting_to_change_is_named() -> None:
    (problem,) = unmet(requirements(SPECS["polling"]), BOOKWORM, NEW)
    assert problem.where == "disk.poll"


def test_version_lines() -> None:
    assert qemu_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)") == OLD
    assert qemu_version("QEMU emulator version 10.0") == (10, 0, 0)
    assert qemu_version("no QEMU at all") is None
