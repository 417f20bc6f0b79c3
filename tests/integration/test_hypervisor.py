"""Real libvirt: the embedded driver, and the test driver for what must never be touched."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from domain_goldens import experiments, spec_of
from harness.adapters.hypervisor import Hypervisor
from harness.adapters.lab import DOMAIN_PREFIX
from harness.adapters.workspace import Workspace
from harness.core.domain_xml import render_domain
from harness.core.errors import HypervisorError
from harness.resources import resource_dir

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


EMULATORS = """\
import sys
from pathlib import Path
from harness.adapters.hypervisor import Hypervisor
from harness.core.errors import HypervisorError
xml = "<domain type='qemu'><name>qemu-ab-x</name><memory unit='MiB'>64</memory>"
xml += "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
xml += "<devices><emulator>{}</emulator></devices></domain>"
with Hypervisor("qemu:///embed", Path(sys.argv[1])) as hypervisor:
    for emulator in sys.argv[2:]:
        try:
            hypervisor.start(xml.format(emulator))
        except HypervisorError as error:
            print(error.message.replace(chr(10), " "))
    print(hypervisor.domains(""))
"""


def test_an_emulator_that_is_none_is_named() -> None:
    with tempfile.TemporaryDirectory(prefix="ab-") as place:
        # QEMU's user is not root: it has to get through.
        Path(place).chmod(0o755)
        plain, script = Path(place) / "plain", Path(place) / "script"
        for path, mode in ((plain, 0o644), (script, 0o755)):
            path.write_text("#!/bin/sh\nexit 1\n")
            path.chmod(mode)
        emulators = ["/nonexistent/qemu", str(plain), str(script)]
        done = subprocess.run(
            [sys.executable, "-c", EMULATORS, f"{place}/lv", *emulators],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *messages, left = done.stdout.splitlines()
    assert left == "[]"
    for emulator, message in zip(emulators, messages, strict=True):
        assert emulator in message
        assert "could not be started" in message


def test_a_domain_of_ours_starts_and_ends_on_the_test_driver(tmp_path: Path) -> None:
    xml = render_domain(
        spec_of(experiments()["file-made"]), (resource_dir("templates") / "test.xml.j2").read_text()
    )
    with Hypervisor("test:///default", tmp_path) as hypervisor:
        domain = hypervisor.start(re.sub(r'<domain type="\w+"', '<domain type="test"', xml))
        assert domain.is_running()
        assert domain.pid is None, "no process of this host"
        domain.destroy()
        assert not domain.is_running()
        domain.destroy()
        assert hypervisor.domains(DOMAIN_PREFIX) == []


@pytest.mark.parametrize("length", [20, 27, 28, 60, 120])
def test_a_state_directory_however_long_leaves_room_for_sockets(length: int) -> None:
    state = Path("/" + "s" * (length - 4))
    root = Workspace.at(state).embed_root
    socket = root / "lib/qemu/channel/target/domain-9999-qemu-ab-x-2026112300" / "org.qemu.guest_agent.0"
    assert len(str(root)) <= 27
    assert len(str(socket)) <= 107


def test_an_embedded_driver_that_another_process_has_is_said_to_be_in_use() -> None:
    script = (
        "import sys; from pathlib import Path; from harness.adapters.hypervisor import Hypervisor\n"
        "with Hypervisor('qemu:///embed', Path(sys.argv[1])):\n"
        "    print('open', flush=True); sys.stdin.read()\n"
    )
    with tempfile.TemporaryDirectory(prefix="ab-") as place:
        argv = [sys.executable, "-c", script, f"{place}/lv"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "open\n"
            second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
            first.communicate("", timeout=60)
    assert first.returncode == 0
    assert second.returncode == 1
    assert "HypervisorError: the embedded libvirt below" in second.stderr
    assert "is in use by another process" in second.stderr
