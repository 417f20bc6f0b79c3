"""What is recorded of host, QEMU and guest: read right, without secrets, without what each boot has anew."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters import checkout
from harness.adapters.host.facts import environment, volatile_settings
from harness.adapters.libraries import shared_libraries
from harness.core.guest_view import MICRO_GUEST, SCRIPT, feature_bits, parse_guest
from harness.core.provenance import argv_settings
from harness.core.qemu_answers import block_nodes, devices_of, iothreads, telling_properties, version
from harness.core.redaction import HIDDEN, redacted, redacted_argv
from harness.core.shared_objects import build_id, mapped_files
from recorded import FACTS

# Secrets


@pytest.mark.parametrize(
    "argument",
    [
        "secret,id=s0,data=hunter2",
        "secret,data=hunter2,id=s0,format=raw",
        "secret,id=s0,data=hun,,ter2hunter2",
        '{"qom-type":"secret","id":"s0","data":"hunter2"}',
        '{"qom-type": "secret", "id": "s0", "nested": {"password": "hunter2"}}',
        "driver=https,url=https://user:hunter2@example.org/disk",
        "file=nbd://u:hunter2@h/x",
        "driver=ssh,password=hunter2,host=h",
        "vnc=:1,Password=hunter2",
        "root=/dev/vda1 rd.token=hunter2 quiet",
    ],
)
def test_a_secret_on_the_command_line_is_not_recorded(argument: str) -> None:
    (found,) = redacted_argv([argument])
    assert "hunter2" not in found
    assert HIDDEN in found


@pytest.mark.parametrize(
    "argument",
    [
        '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/lv/domain-1-x/master-key.aes"}',
        "driver=luks,key-secret=s0,file=disk",
        "password-secret=s0,port=0",
        "data-file=/x.raw,driver=qcow2",
        "virtio-blk-pci,drive=disk0,serial=disk0",
        "{broken",
        "console=ttyS0 quiet panic=-1",
    ],
)
def test_what_is_no_secret_stays_as_it_is(argument: str) -> None:
    assert redacted_argv([argument]) == [argument]


@given(st.text())
def test_any_text_can_be_looked_through(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
    redacted_argv([text, f"secret,data={text}", f"{{{text}"])


# QEMU's command line


def test_two_boots_of_one_build_have_the_same_command_line() -> None:
    argv = FACTS["OLD"]["argv"]
    name = argv[argv.index("-name") + 1].partition("guest=")[2].partition(",")[0]
    again = [
        argument.replace(name, "another")
        .replace(argv[argv.index("-uuid") + 1], "0-0-0")
        .replace("domain-1-", "domain-12-")
        .replace("fd=8", "fd=31")
        .replace("/sessions/000-OLD/", "/sessions/107-OLD/")
        for argument in argv
    ]
    assert again != argv
    assert argv_settings(again) == argv_settings(argv)
    assert argv_settings([*again, "-icount", "auto"]) != argv_settings(argv)


@given(st.lists(st.text()))
def test_any_command_line_can_be_compared(argv: list[str]) -> None:
    assert argv_settings(argv) == sorted(argv_settings(argv))


# Shared libraries


def test_the_libraries_of_this_process_are_known_by_their_build_ids() -> None:
    found = shared_libraries(int(Path("/proc/self").readlink().name))
    assert found
    libc = next(path for path in found if Path(path).name.startswith("libc.so"))
    notes = subprocess.run(["readelf", "-n", libc], capture_output=True, text=True, check=True).stdout
    assert found[libc] == f"build-id:{notes.partition('Build ID: ')[2].split()[0]}"
    assert str(Path(sys.executable).resolve()) not in found


def test_what_has_no_build_id_has_none() -> None:
    assert build_id(b"\x7fELF\x02\x01" + bytes(100)) is None
    assert build_id(b"no library at all") is None
    assert shared_libraries(2**22 + 1) is None, "there is no such process"


def elf(*notes: tuple[int, bytes, bytes]) -> bytes:
    """Return the head of an ELF file with these notes (type, name, description)."""
    body = b"".join(
        struct.pack("<III", len(name), len(text), kind)
        + name.ljust((len(name) + 3) // 4 * 4, b"\0")
        + text.ljust((len(text) + 3) // 4 * 4, b"\0")
        for kind, name, text in notes
    )
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", 64)
    header = header.ljust(54, b"\0") + struct.pack("<HH", 56, 1)
    table = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(body), len(body), 4)
    return header.ljust(64, b"\0") + table + body


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=30))
def test_a_build_id_is_found_behind_other_notes(identity: bytes, other: bytes) -> None:
    head = elf((1, b"GNU\0", other), (3, b"XYZ\0", other), (3, b"GNU\0", identity))
    assert build_id(head) == identity.hex()


@given(st.binary(max_size=200))
def test_any_bytes_behind_an_elf_head_are_survived(data: bytes) -> None:
    build_id(b"\x7fELF\x02\x01" + data)
    build_id(elf((3, b"GNU\0", b"identity"))[: len(data)])
    mapped_files(data)


def test_only_files_that_are_executed_count_as_mapped() -> None:
    maps = (
        b"7f00-7f01 r--p 00000000 08:01 12 /usr/lib/libz.so.1\n"
        b"7f01-7f02 r-xp 00001000 08:01 12 /usr/lib/libz.so.1\n"
        b"7f03-7f04 r-xp 00000000 00:00 0\n"
        b"7f05-7f06 r-xp 00000000 00:00 0 [vdso]\n"
        b"7f07-7f08 r--p 00000000 08:01 13 /usr/share/locale/x\n"
        b"7f09-7f0a r-xp 00000000 08:01 14 /a b/lib.so (deleted)\n"
    )
    assert mapped_files(maps) == ["/a b/lib.so (deleted)", "/usr/lib/libz.so.1"]


# QEMU's answers


def test_what_is_another_at_every_boot_is_left_out_of_qemus_answers() -> None:
    threads = [{"id": "iothread1", "thread-id": 4711, "poll-max-ns": 32768, "poll-grow": 0}]
    assert iothreads(threads) == {"iothread1": {"poll-max-ns": 32768, "poll-grow": 0}}
    node = {"node-name": "#block123", "drv": "raw", "file": "/x", "ro": False, "image": {"actual-size": 7}}
    assert block_nodes([node, {**node, "node-name": "#block987"}]) == {
        "#block-0": {"driver": "raw", "file": "/x", "ro": False},
        "#block-1": {"driver": "raw", "file": "/x", "ro": False},
    }
    grown = {"node-name": "n", "drv": "file", "file": "/x.qcow2", "image": {"virtual-size": 67436544}}
    assert block_nodes([grown]) == {"n": {"driver": "file", "file": "/x.qcow2"}}
    fixed = block_nodes([{**grown, "drv": "qcow2"}])["n"]
    assert fixed["virtual-size"] == 67436544
    same = [{"node-name": "n", "drv": "null-co", "file": 'json:{"size": 1, "driver": "null-co"}'}]
    other = [{"node-name": "n", "drv": "null-co", "file": 'json:{"driver": "null-co", "size": 1}'}]
    assert block_nodes(same) == block_nodes(other)


def test_virtio_blk_devices_and_their_telling_properties_are_found() -> None:
    listed = [
        {"name": "type", "type": "string"},
        {"name": "device[0]", "type": "child<virtio-blk-pci>"},
        {"name": "serial0", "type": "child<isa-serial>"},
        {"name": "num-queues", "type": "uint16"},
        {"name": "legacy-addr", "type": "str"},
        {"name": "realized", "type": "bool"},
    ]
    assert list(devices_of("/machine/x", listed, "virtio-blk-")) == ["/machine/x/device[0]"]
    assert list(telling_properties(listed)) == ["num-queues"]
    qemu = {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""}
    assert version(qemu) == {"version": "10.0.2", "package": None}


# The guest


def test_what_a_guest_says_is_read_whatever_is_missing() -> None:
    guest = parse_guest(
        "hw_queues:4\nfio:fio-3.36\nqueue/scheduler:[none] mq-deadline\ndevice/features:0110\n"
        "/proc/cmdline:console=ttyS0 root=UUID=a:b\n/proc/modules:virtio_blk 1 2 - Live 0x0\n"
        "/proc/modules:ext4 1 2 - Live 0x0\n"
        "cpuinfo:model name\t: AMD: EPYC\ncpuinfo:flags\t\t: sse fpu\ncpuinfo:\n"
    )
    assert guest["command_line"] == "console=ttyS0 root=UUID=a:b"
    assert guest["modules"] == ["ext4", "virtio_blk"]
    assert guest["cpu"] == {"model": "AMD: EPYC", "flags": "fpu sse"}
    assert guest["disk"]["features"] == [1, 2]
    assert (guest["disk"]["hw_queues"], guest["disk"]["scheduler"]) == ("4", "[none] mq-deadline")
    assert guest["disk"]["nr_requests"] is None
    assert guest["kernel"] is None
    assert feature_bits(None) is None


@given(st.text())
def test_any_answer_of_a_guest_is_read(text: str) -> None:
    assert json.loads(json.dumps(parse_guest(text)))["disk"].keys() == FACTS["OLD"]["guest"]["disk"].keys()


def test_the_script_is_one_that_a_shell_takes_and_fails_without_a_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "none" in done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A link such as udev makes, to what has the name of one of the host's disks."""
    name = next((entry.name for entry in sorted(Path("/sys/block").iterdir())), None)
    if name is None:
        pytest.skip("this host has no block device at all")
    link = tmp_path / "virtio-disk0"
    link.symlink_to(tmp_path / name)
    return link


@pytest.mark.parametrize(
    ("micro", "fio"), [("kernel=6.1\nfio=fio-9\n", "fio-9"), (None, "fio-8"), ("", "fio-8")]
)
def test_a_micro_guest_is_not_asked_for_its_fio_and_the_disk_gets_its_own_name(
    disk: Path, tmp_path: Path, micro: str | None, fio: str
) -> None:
    program = tmp_path / "bin" / "fio"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho fio-8\n")
    program.chmod(0o755)
    said = tmp_path / "harness-guest"
    if micro is not None:
        said.write_text(micro)
    done = subprocess.run(
        ["sh", "-c", SCRIPT.replace(MICRO_GUEST, str(said)), "sh", str(disk)],
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    guest = parse_guest(done.stdout)
    assert (guest["device"], guest["fio"]) == (str(disk.resolve()), fio)


# The host


def test_the_host_is_described_and_what_it_does_not_have_is_none() -> None:
    host = environment()["host"]
    assert host["topology"]["cores"] >= 1
    assert host["topology"]["sockets"] >= 1
    assert host["topology"]["numa_nodes"] is None or "node0" in host["topology"]["numa_nodes"]
    assert host["kernel_command_line"]
    settings = volatile_settings()
    assert int(settings["vm.max_map_count"] or 0) > 0
    assert {"governor", "boost", "ksm", "smt", "kvm_halt_poll_ns", "kernel.numa_balancing"} < set(settings)
    assert settings == {**host["settings"], **host["sysctl"]}


def test_the_commit_is_known_in_a_checkout_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(checkout.__file__).resolve().parents[2]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        assert str(checkout.checkout_commit() or "").removesuffix("-dirty") == head.stdout.strip()
    monkeypatch.setattr(checkout, "_ROOT", tmp_path)
    assert checkout.checkout_commit() is None
