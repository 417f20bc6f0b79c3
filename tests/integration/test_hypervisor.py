"""Real libvirt: the embedded driver, and the test driver for what must never be touched."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from harness.adapters.hypervisor import Hypervisor
from harness.adapters.lab import DOMAIN_PREFIX
from harness.core.errors import HypervisorError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.libvirt

DOMAIN = (
    "<domain type='test'><name>{name}</name><memory unit='MiB'>8</memory><os><type>hvm</type></os></domain>"
)


def test_the_embedded_driver_opens_without_a_daemon_and_without_noise() -> None:
    script = (
        "import sys; from pathlib import Path; from harness.adapters.hypervisor import Hypervisor\n"
        "with Hypervisor('qemu:///embed', Path(sys.argv[1]) / 'lv') as hypervisor:\n"
        "    print(hypervisor.version, hypervisor.domains('qemu-ab-'))\n"
    )
    with tempfile.TemporaryDirectory(prefix="ab-") as root:
        done = subprocess.run(
            [sys.executable, "-c", script, root], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
    assert done.stderr == ""


def test_a_libvirt_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="cannot connect") as caught:
        Hypervisor("qemu+unix:///system?socket=/nonexistent/sock", tmp_path)
    assert caught.value.remedy


def test_only_our_own_domains_are_listed_and_ended(tmp_path: Path) -> None:
    with Hypervisor("test:///default", tmp_path) as hypervisor:
        ours = hypervisor.start(DOMAIN.format(name=f"{DOMAIN_PREFIX}x-000-OLD"))
        assert hypervisor.domains(DOMAIN_PREFIX) == [ours.name]
        assert "test" in hypervisor.domains(""), "the test driver brings a domain of somebody else's"
        for name in hypervisor.domains(DOMAIN_PREFIX):
            hypervisor.destroy(name)
        assert hypervisor.domains(DOMAIN_PREFIX) == []
        assert "test" in hypervisor.domains("")
        assert not ours.is_running()
        hypervisor.destroy("never-there")


def test_what_libvirt_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with (
        Hypervisor("test:///default", tmp_path) as hypervisor,
        pytest.raises(HypervisorError, match="could not be started"),
    ):
        hypervisor.start("<domain/>")
