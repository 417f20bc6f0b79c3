"""Sessions must agree in everything but the emulator: what may differ, what may not, what is unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.agreement import (
    RULES,
    Within,
    agreement,
    disagreements,
    domain_settings,
    rule_for,
    summary_of,
)
from harness.core.errors import InputError
from harness.core.provenance import comparable
from recorded import DOMAIN, FACTS, session

FOUR = ("000-OLD", "001-NEW", "002-NEW", "003-OLD")


def but(label: str, path: str, value: Any) -> list[str]:
    """Return the disagreements when one of four sessions recorded something else."""
    return disagreements([session(name, {path: value} if name == label else None) for name in FOUR])


def test_two_real_builds_agree_and_what_they_differ_in_is_explained() -> None:
    found = agreement([session(label) for label in FOUR])
    assert found.disagreements == ()
    values = {entry.what: entry.values for entry in found.differences}
    assert values["qemu.machine"] == {"OLD": "pc-q35-7.2", "NEW": "pc-q35-10.0"}
    assert values["qemu.devices.disk0.in_order"] == {"OLD": None, "NEW": False}
    assert values["qemu.devices.disk0.scsi"] == {"OLD": False, "NEW": None}
    assert values["qemu.devices.disk0.rombar"] == {"OLD": 1, "NEW": -1}
    assert "-no-hpet" in values["argv"]["OLD"]
    assert any("accel-tcg" in library for library in values["libraries"]["OLD"])
    assert not any("libc.so" in library for library in values["libraries"]["OLD"]), "both use the same"
    assert {"exe", "sha256", "qemu.version", "qemu.package"} < set(values)
    assert len(values) < 25, "a reader looks at all of them"
    assert all(entry.why for entry in found.differences)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("accel", "kvm"),
        ("host_kernel", "6.19"),
        ("guest_kernel", "6.12"),
        ("guest_fio", "fio-3.36"),
        ("image_sha256", "0" * 64),
        ("host/governor", "powersave"),
        ("host/transparent_hugepage", "[always] madvise never"),
        ("host/ksm", "1"),
        ("host/kernel.numa_balancing", "1"),
        ("host/kvm_halt_poll_ns", "0"),
        ("host/smt", "1"),
        ("host/vm.max_map_count", "1048576"),
        ("guest/command_line", "console=ttyS0 mitigations=off"),
        ("guest/modules", ["virtio_blk"]),
        ("guest/cpus", "0-1"),
        ("guest/disk/scheduler", "mq-deadline [none]"),
        ("guest/disk/nr_requests", "64"),
        ("guest/disk/hw_queues", "2"),
        ("qemu/kvm/enabled", True),
        ("qemu/cpus", 2),
        ("qemu/cpu/type", "qemu64-x86_64-cpu"),
        ("qemu/machine", "pc-i440fx-7.2"),
        ("qemu/block_nodes/disk0/cache/direct", True),
        ("qemu/block_nodes/disk0/file", "/other.raw"),
        ("qemu/block_nodes/disk0/detect_zeroes", "unmap"),
        ("qemu/devices/disk0/num-queues", 2),
        ("qemu/devices/disk0/queue-size", 256),
        ("qemu/devices/disk0/iothread", "/objects/iothread2"),
    ],
)
def test_what_must_be_equal_in_all_sessions_is_named(path: str, value: Any) -> None:
    before = FACTS["OLD"]
    for step in path.split("/"):
        before = before[step]
    # A setting that is None here (no governor in a virtual machine) needs two values to differ.
    sessions = [session(label, {path: value if label == "000-OLD" else before or "x"}) for label in FOUR]
    found = disagreements(sessions)
    name = path.replace("/", ".")
    assert any(f"{name} " in f"{line} " and "session 000-OLD" in line for line in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sha256", "0" * 64),
        ("exe", "/elsewhere/qemu-system-x86_64"),
        ("qemu/version", "7.2.23"),
        ("qemu/machine", "pc-q35-7.1"),
        ("qemu/devices/disk0/discard", False),
        ("qemu/iothreads/iothread1/poll-max-ns", 0),
        ("guest/cpu/flags", "fpu"),
        ("guest/disk/max_sectors_kb", "512"),
    ],
)
def test_within_one_variant_everything_must_be_equal(path: str, value: Any) -> None:
    (found,) = but("000-OLD", path, value)
    assert found.startswith(f"{path.replace('/', '.')} of OLD differs: ")
    assert "in session 000-OLD" in found
    assert "in session 003-OLD" in found
    both = [session(label, {path: value} if label.endswith("OLD") else None) for label in FOUR]
    found_between = agreement(both)
    assert found_between.disagreements == (), "between variants it may differ"
    assert path.replace("/", ".") in {entry.what for entry in found_between.differences}


def test_a_library_that_was_replaced_during_the_run_is_named() -> None:
    libraries = dict(FACTS["OLD"]["libraries"])
    path = next(name for name in libraries if "libc.so" in name)
    found = but("003-OLD", "libraries", {**libraries, path: "build-id:0123"})
    assert len(found) == 1
    assert "libraries of OLD differs: libc.so.6 build-id:" in found[0]
    assert "libc.so.6 build-id:0123 in session 003-OLD" in found[0]


def test_an_argument_that_only_one_boot_had_is_named() -> None:
    found = but("003-OLD", "argv", [*FACTS["OLD"]["argv"], "-icount", "shift=0"])
    assert found == ["argv of OLD differs: nothing in session 000-OLD, -icount shift=0 in session 003-OLD"]


def test_a_disk_or_an_iothread_more_is_named() -> None:
    nodes = FACTS["OLD"]["qemu"]["block_nodes"]
    (found, *_) = but("000-OLD", "qemu/block_nodes", {**nodes, "disk1": nodes["disk0"]})
    assert found.startswith("qemu.block_nodes differs: disk1 in session 000-OLD, nothing in session 001-NEW")


def test_a_domain_setting_that_differs_is_named() -> None:
    sessions = [session(label) for label in FOUR[:3]]
    sessions.append(session("003-OLD", domain=DOMAIN.replace("<vcpu>1", "<vcpu>2")))
    assert disagreements(sessions) == [
        "domain setting domain/vcpu differs: 1 in session 000-OLD, 2 in session 003-OLD"
    ]
    sessions[3] = session("003-OLD", domain=DOMAIN.replace("<vcpu>1</vcpu>", ""))
    assert disagreements(sessions) == [
        "domain setting domain/vcpu differs: 1 in session 000-OLD, None in session 003-OLD"
    ]


def test_of_long_settings_the_part_that_differs_is_shown() -> None:
    long = DOMAIN.replace("<vcpu>1", f"<vcpu>{'x' * 200},num-queues=1,addr=0x10")
    sessions = [session("000-OLD", domain=long), session("001-NEW", domain=long.replace("=1,", "=4,"))]
    (found,) = disagreements(sessions)
    assert "vcpu differs: ...xxx,num-queues=1,addr=0x10 in session 000-OLD, ...xxx,num-queues=4,addr" in found


def test_a_domain_that_is_no_xml_is_named_by_its_session() -> None:
    broken = replace(session("000-OLD"), domain_xml="<domain>")
    with pytest.raises(InputError, match=r"sessions/000-OLD/domain.xml"):
        agreement([broken])


@pytest.mark.parametrize(
    "path", ["qemu", "guest", "host", "libraries", "guest/disk", "qemu/devices", "accel"]
)
def test_what_is_missing_is_not_different(path: str) -> None:
    assert but("000-OLD", path, None) == []
    found = agreement([session("000-OLD", {path: None}), session("001-NEW")])
    assert found.disagreements == ()
    assert not any(entry.what.startswith(path.replace("/", ".")) for entry in found.differences)


def test_runs_of_before_these_facts_were_recorded_agree_as_ever() -> None:
    old = (
        "pid",
        "exe",
        "sha256",
        "argv",
        "guest_kernel",
        "guest_fio",
        "accel",
        "host_kernel",
        "image_sha256",
    )
    sessions = [
        replace(session(label), facts={name: FACTS[label[4:]][name] for name in old}) for label in FOUR
    ]
    assert disagreements(sessions) == []
    # A run that was begun by an older harness and ended by this one.
    assert disagreements([*sessions[:2], session("002-NEW"), session("003-OLD")]) == []


def test_guest_configurations_are_groups_of_their_own() -> None:
    one = [replace(session(label), guest=(("queues", 1),)) for label in FOUR[:2]]
    four = {"qemu/devices/disk0/num-queues": 4, "guest/disk/hw_queues": "4"}
    other = [replace(session(label, four), guest=(("queues", 4),)) for label in FOUR[2:]]
    assert disagreements([*one, *other]) == []
    assert disagreements([session("000-OLD"), session("003-OLD", four)]) != []


PATHS = (
    "accel", "host/ksm", "qemu/devices/disk0/num-queues", "qemu/devices/disk0/discard", "sha256",
    "guest/modules", "libraries",
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.sampled_from([None, "0", "1", ["a"], ["a", "b"], {"a": "x"}])


@settings(max_examples=60)
@given(
    changes=st.lists(st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=3), min_size=4, max_size=4),
    order=st.permutations(range(4)),
)
def test_the_order_of_sessions_does_not_matter(changes: list[dict[str, Any]], order: list[int]) -> None:
    sessions = [session(label, change) for label, change in zip(FOUR, changes, strict=True)]
    assert agreement([sessions[index] for index in order]) == agreement(sessions)


def test_the_first_disagreements_stand_for_many() -> None:
    assert summary_of(["a", "b"]) == "a; b"
    assert summary_of(list("abcde")) == "a; b; c; and 2 more (harness show)"


def test_every_fact_of_a_session_has_a_rule_or_is_its_own() -> None:
    without = {name for facts in FACTS.values() for name in comparable(facts) if rule_for(name) is None}
    assert without == {"pid"}


def test_every_rule_that_lets_builds_differ_says_why() -> None:
    assert all(rule.why for rule in RULES if rule.within is Within.VARIANT)
    assert len({rule.names for rule in RULES}) == len(RULES)


def test_a_domains_own_names_are_no_settings() -> None:
    assert domain_settings(DOMAIN.format(label="x")) == {"domain/vcpu": "1"}


def test_how_libvirt_is_to_ask_qemu_is_no_setting() -> None:
    """A run that was begun before this was in the template goes on without a difference."""
    domain = (Path(__file__).parents[1] / "data/domain/placement.xml").read_text()
    assert "cpu-unavailable-features" in domain
    begin, end = domain.index("  <qemu:capabilities>"), domain.index("</domain>")
    assert domain_settings(domain[:begin] + domain[end:]) == domain_settings(domain)
