"""The golden domain XML files against libvirt's own schema, by libvirt's own tool."""

from __future__ import annotations

import shutil
import subprocess

import libvirt
import pytest

import domain_goldens
from harness.core.capabilities import requirements

SPECS = domain_goldens.golden_specs()


def _installed() -> tuple[int, int, int]:
    number = libvirt.getVersion()
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def _validate(name: str) -> subprocess.CompletedProcess[str]:
    missing = [tool for tool in ("virt-xml-validate", "xmllint") if shutil.which(tool) is None]
    assert not missing, f"{', '.join(missing)}: not installed (Debian: libvirt-clients, libxml2-utils)"
    golden = domain_goldens.DIRECTORY / f"{name}.xml"
    return subprocess.run(
        ["virt-xml-validate", golden, "domain"], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("name", SPECS)
def test_libvirts_schema_accepts_it(name: str) -> None:
    newer = [
        requirement
        for requirement in requirements(SPECS[name])
        if requirement.libvirt and requirement.libvirt > _installed()
    ]
    result = _validate(name)
    if newer:
        # Not skipped: a schema older than the feature has to refuse it, or the version we ask for is wrong.
        assert result.returncode != 0, f"this libvirt knows {newer}: correct harness/core/capabilities.py"
    else:
        assert result.returncode == 0, result.stdout + result.stderr
