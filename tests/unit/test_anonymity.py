"""What is replaced, what is not, and that equal names stay equal."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import fio_json
from harness.core.agreement import agreement
from harness.core.anonymity import Anonymiser, users_in
from harness.core.fio_output import metrics, parse_fio
from harness.core.model import Cell
from recorded import DATA, session

HOSTS, USERS = ("build-box.lab.example", "vm"), ("jane", "root", "new")


def anonymiser() -> Anonymiser:
    return Anonymiser(hosts=HOSTS, users=USERS, directories=["/srv/my runs"], words=["OLD", "NEW"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on build-box.lab.example and Build-Box", "on host1 and host1"),
        ("vm: x-20260101T000000Z-vm-000-OLD", "vm: x-20260101T000000Z-host1-000-OLD"),
        ("rebuild-boxes, build-box2", "rebuild-boxes, build-box2"),
        ("jane's build, by Jane", "user1's build, by user1"),
        # Words of a run, and names too short to be told from them.
        ("vm.max_map_count of NEW as root", "vm.max_map_count of NEW as root"),
        ("file=/home/jane/q.raw,if=none", "file=/home/p1/p2.raw,if=none"),
        ("/srv/my runs/x", "/srv/p1/p2"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("/usr/local/qemu/bin/qemu-img", "/usr/p1/qemu/bin/qemu-img"),
        ("/var/lib/x/lv/lib/qemu/domain-3-a/master.sock", "/var/lib/p1/lv/lib/qemu/domain-3-a/p2.sock"),
        ('"unix:/tmp/ab-count-1/qtest"', '"unix:/tmp/p1/p2"'),
        ("/dev/nvme0n1 /dev/disk/by-id/nvme-S3RIAL", "/dev/nvme0n1 /dev/disk/by-id/p1"),
        ("<name>a/b</name><disk/>", "<name>a/b</name><disk/>"),
        ("Debian GNU/Linux 12, 20 kB/s, CPU 0/KVM, 3 / 4", "Debian GNU/Linux 12, 20 kB/s, CPU 0/KVM, 3 / 4"),
        ("qemu+ssh://jane@farm7/system", "qemu+ssh://host1/system"),
        ("qemu:///embed?root=/srv/x", "qemu:///embed?root=/srv/p1"),
        ("https://git.corp.example/qemu.git", "https://host1/p1"),
        ("http://libvirt.org/schemas/domain/qemu/1.0", "http://libvirt.org/schemas/domain/qemu/1.0"),
        ("192.168.1.7 127.0.0.1 0.0.0.0:2024", "address1 127.0.0.1 0.0.0.0:2024"),
        ("fe80::1ff:fe23 and 12:34:56, 0000:01:00.0", "address1 and 12:34:56, 0000:01:00.0"),
        ("QEMU 7.2.22 (1:7.2+dfsg-7+deb12u18), 6.1.0-18", "QEMU 7.2.22 (1:7.2+dfsg-7+deb12u18), 6.1.0-18"),
        ("52:54:00:AA:bb:01", "02:00:00:00:00:01"),
        ("root=UUID=12345678-1234-1234-1234-123456789abc", "root=UUID=00000000-0000-4000-8000-000000000001"),
        ('"serial": "S3CR3T", "wwn":"5"', '"serial": "serial1", "wwn":"serial2"'),
        ("password=hunter2", "password=(not recorded)"),
    ],
)
def test_what_becomes_of_a_text(text: str, expected: str) -> None:
    assert anonymiser().text(text) == expected


def test_equal_names_stay_equal_and_others_apart() -> None:
    one = anonymiser()
    first = one.text("/data/a/x.img 10.0.0.1 52:54:00:00:00:01")
    assert one.text("/data/b/x.img 10.0.0.2 52:54:00:00:00:02") != first
    assert one.text("/data/a/x.img 10.0.0.1 52:54:00:00:00:01") == first


def test_users_are_found_by_their_homes() -> None:
    assert users_in('"/home/jane/x", /Users/bob') == {"jane", "bob"}


def test_sessions_agree_as_they_did() -> None:
    """What two real QEMUs recorded: their legitimate differences, and one that is not."""
    labels = ("000-OLD", "001-NEW", "002-OLD", "003-NEW")
    for changes in (None, {"host/transparent_hugepage": "always"}):
        sessions = [session(label, changes if label == "003-NEW" else None) for label in labels]
        one = anonymiser()
        hidden = [
            type(found)(
                found.label,
                found.variant,
                found.guest,
                json.loads(one.text(json.dumps(found.facts))),
                one.text(found.domain_xml or ""),
            )
            for found in sessions
        ]
        before, after = agreement(sessions), agreement(hidden)
        assert len(after.disagreements) == len(before.disagreements) == (1 if changes else 0)
        assert [found.what for found in after.differences] == [found.what for found in before.differences]


def test_real_facts_keep_no_private_path() -> None:
    text = (DATA / "facts-OLD.json").read_text()
    hidden = anonymiser().text(text)
    assert json.loads(hidden).keys() == json.loads(text).keys()
    assert "/var/lib/qemu-ab-harness" in text
    assert "qemu-ab-harness/" not in hidden


@given(st.integers(1, 10**9), st.sampled_from(["randread", "write"]), st.sampled_from(["4k", "1m"]))
def test_no_number_changes(iops: int, rw: str, bs: str) -> None:
    output = fio_json(Cell(rw, bs, 8), float(iops))
    assert metrics(parse_fio(anonymiser().text(output))) == metrics(parse_fio(output))


@given(st.lists(st.from_regex(r"/[a-z]{1,8}(/[a-z0-9_]{1,8}){1,4}", fullmatch=True), unique=True))
def test_paths_are_never_confused(paths: list[str]) -> None:
    one = anonymiser()
    hidden = [one.text(path) for path in paths]
    assert len(set(hidden)) == len(paths)
    assert [path.count("/") for path in hidden] == [path.count("/") for path in paths]
    again = anonymiser()
    assert [again.text(path) for path in paths] == hidden


@given(st.text())
def test_any_text_goes_through(text: str) -> None:
    hidden = anonymiser().text(text)
    assert not re.search(r"build-box\b", hidden, re.IGNORECASE)
