"""Disk images of the user's: what is refused, what is pinned, and what a guest is told at its first boot."""

from __future__ import annotations

import io
import json
import os
import stat
import string
from dataclasses import asdict
from pathlib import Path

import pycdlib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.experience import Experience, recall, remember
from harness.adapters.files import sha256_of
from harness.adapters.guest.image import check_image, pin
from harness.adapters.guest.seed import LABEL, new_key_pair, write_seed
from harness.adapters.workspace import Workspace
from harness.core.agreement import domain_settings
from harness.core.domain_specs import RootSpec
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.experiment import Experiment, Timeouts, load_experiment
from harness.core.guest_seed import KEY_COMMENT, known_host, meta_data, user_data
from harness.core.guest_view import parse_guest
from harness.core.model import Accel, BuildRecord, DiskFormat, GuestImage
from harness.core.planning import Costs
from harness.core.provenance import argv_settings
from harness.resources import resource_dir
from harness.shell.doctor import Health, examine
from harness.shell.preparing import FIO_SCRIPT, check_image_unchanged, check_networks

HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
SSH = "ssh: {key: /k, host_key: ssh-ed25519 AAAA}"


def load(guest: str, rest: str = "") -> Experiment:
    return load_experiment(f"{HEAD}guest: {{{guest}}}\n{rest}", "t.yml")


@pytest.mark.parametrize(
    ("guest", "where", "message", "remedy"),
    [
        ("image: debian.qcow2", "guest.image", "neither micro nor an absolute path", "from /"),
        ("connection: ssh", "guest.connection", "neither a network nor sshd", "image: /path"),
        (SSH, "guest.ssh", "means nothing to the image micro", "name a disk image"),
        ("prepare: false", "guest.prepare", "means nothing to the image micro", "name a disk image"),
        ("image: /i, cmdline: quiet", "guest.cmdline", "own boot loader", "root="),
        ("image: /i, initrd: /x", "guest.initrd", "initrd of your own without a kernel", "guest.kernel"),
        (f"image: /i, prepare: false, {SSH}", "guest.ssh", "SSH is not used", "connection: ssh"),
        ("image: /i, ssh: {key: /k}", "guest.ssh.host_key", "is missing", "host_key"),
        ("image: /i, ssh: {key: k, host_key: ssh-rsa A}", "guest.ssh.key", "not an absolute path", "from /"),
        ("image: /i, ssh: {key: /k, host_key: secret}", "guest.ssh.host_key", "no", "ssh_host_ed25519_key"),
        (
            "image: /i, ssh: {key: /k, host_key: ssh-rsa A, password: x}",
            "guest.ssh.password",
            "unknown",
            "key",
        ),
        ("image: /i, ssh: {key: /k, host_key: ssh-rsa A, user: 'a b'}", "guest.ssh.user", "user", "fedora"),
        ("image: /i, ssh: {key: /k, host_key: ssh-rsa A, port: 0}", "guest.ssh.port", "less than 1", "65535"),
    ],
)
def test_contradictions(guest: str, where: str, message: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        load(guest)
    (problem,) = caught.value.problems
    assert problem.where == f"t.yml: {where}"
    assert message in problem.message
    assert remedy in str(problem.remedy)


def test_a_workload_that_boots_no_disk_says_so() -> None:
    with pytest.raises(InputError, match="pool-growth boots no disk image"):
        load("image: /i", "workload: pool-growth\n")


@pytest.mark.parametrize(
    "guest",
    [
        "image: /i",
        "image: /i, connection: ssh",
        f"image: /i, {SSH}",
        "image: /i, kernel: /k, cmdline: root=/dev/vda",
    ],
)
def test_what_is_allowed(guest: str) -> None:
    experiment = load(guest)
    assert experiment.guest.disk_image == "/i"
    assert load_experiment(experiment.to_yaml(), "again.yml") == experiment


def test_a_disk_image_may_take_longer_to_boot() -> None:
    for accel in Accel.KVM, Accel.TCG:
        assert Timeouts().boot_seconds(accel, disk_image=True) > Timeouts().boot_seconds(accel)
    assert Timeouts.model_validate({"boot": "5s"}).boot_seconds(Accel.TCG, disk_image=True) == 5


def problems(image: Path, rest: str = "") -> tuple[Problem, ...]:
    try:
        check_image(load(f"image: {image}{rest}"), "t.yml")
    except InputError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"KDMV....", "is VMDK"),
        (b"vhdxfile", "is VHDX"),
        (b"\xfd7zXZ\0", "is compressed (xz)"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    image = tmp_path / "disk"
    image.write_bytes(content)
    (problem,) = problems(image)
    assert message in problem.message
    assert problem.remedy


def test_image_and_key_are_looked_at_together(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    key.chmod(0o644)
    rest = f", ssh: {{key: {key}, host_key: ssh-rsa A}}"
    gone, open_key = problems(tmp_path / "gone.qcow2", rest)
    assert "does not exist" in gone.message
    assert open_key.remedy == f"chmod 600 {key}"
    key.chmod(0o600)
    image = tmp_path / "disk.raw"
    image.write_bytes(b"\0" * 512)
    assert problems(image, rest) == ()
    key.write_text("ssh-ed25519 AAAA")
    (public,) = problems(image, rest)
    assert "no private key" in public.message


def test_an_image_is_pinned_by_its_content(tmp_path: Path) -> None:
    image, cache = tmp_path / "disk", tmp_path / "state" / "hashes.json"
    image.write_bytes(b"QFI\xfb and so on")
    first = pin(image, cache)
    assert (first.format, first.size_bytes) == (DiskFormat.QCOW2, 14)
    assert pin(image, cache) == first
    image.write_bytes(b"\0 something raw")
    second = pin(image, cache)
    assert second.format is DiskFormat.RAW
    assert second.sha256 != first.sha256
    # A cache that is damaged costs time, and nothing else.
    cache.write_text("{")
    assert pin(image, cache) == second


def test_the_hash_of_an_image_that_was_not_written_is_remembered(tmp_path: Path) -> None:
    image, cache = tmp_path / "disk", tmp_path / "hashes.json"
    image.write_bytes(b"one")
    first = pin(image, cache)
    status = image.stat()
    image.write_bytes(b"two")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pin(image, cache).sha256 == first.sha256, "looked at by size and time: not read again"
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert pin(image, cache).sha256 != first.sha256


def test_the_seed_lets_in_who_has_the_key_and_changes_nothing_else() -> None:
    login, host = new_key_pair(), new_key_pair()
    text = user_data(login=login.public, host=host)
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    (root,) = config["users"]
    assert (root["name"], root["ssh_authorized_keys"]) == ("root", [login.public])
    assert config["ssh_keys"] == {"ed25519_private": host.private, "ed25519_public": host.public}
    assert (config["ssh_deletekeys"], config["ssh_pwauth"], config["package_update"]) == (True, False, False)
    assert login.private not in text
    assert yaml.safe_load(meta_data("i"))["instance-id"] == "i"


def test_keys_are_new_each_time() -> None:
    keys = [new_key_pair() for _ in range(3)]
    assert len({key.private for key in keys} | {key.public for key in keys}) == 6
    assert all(key.public.startswith("ssh-ed25519 AAAA") and key.public.endswith(KEY_COMMENT) for key in keys)
    assert known_host("h", "ssh-ed25519 AAAA a comment") == "h ssh-ed25519 AAAA\n"


@given(st.text(string.printable, max_size=5000))
def test_a_seed_disk_holds_what_was_put_in(text: str) -> None:
    disk = pycdlib.PyCdlib()
    path = Path("/dev/shm") / f"seed-{os.getpid()}.iso"  # noqa: S108 - of this process's own
    try:
        write_seed(path, {"user-data": text, "meta-data": "x"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "it holds the guest's private key"
        disk.open(str(path))
        found = io.BytesIO()
        disk.get_file_from_iso_fp(found, rr_path="/user-data")
        assert disk.pvd.volume_identifier.decode().strip() == LABEL
        disk.close()
    finally:
        path.unlink(missing_ok=True)
    assert found.getvalue() == text.encode()


def test_the_port_of_one_boot_is_no_difference() -> None:
    one, other = (RootSpec("/o", host_port=port).network_args("pcie.0") for port in (40001, 50002))
    assert one != other
    assert argv_settings(["qemu", *one]) == argv_settings(["qemu", *other])
    xml = ["".join(f'<arg value="{arg}"/>' for arg in args) for args in (one, other)]
    assert domain_settings(f"<domain>{xml[0]}</domain>") == domain_settings(f"<domain>{xml[1]}</domain>")
    assert argv_settings(["qemu", *one]) != argv_settings(
        ["qemu", *RootSpec("/o", host_port=40001, outgoing=True).network_args("pcie.0")]
    )


def test_a_guest_says_which_distribution_it_is() -> None:
    said = '/etc/os-release:NAME="Debian"\n/etc/os-release:PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    assert parse_guest(said)["distribution"] == "Debian GNU/Linux 12 (bookworm)"
    assert parse_guest("/etc/os-release:NAME=Alpine")["distribution"] == "Alpine"
    assert parse_guest("fio:fio-3.33")["distribution"] is None


def build(tmp_path: Path, name: str, netdevs: str) -> BuildRecord:
    emulator = tmp_path / name
    emulator.write_text(f"#!/bin/sh\nprintf 'Available netdev backend types:\\n{netdevs}\\n'\n")
    emulator.chmod(0o755)
    return BuildRecord(name, "path", str(emulator), str(emulator), "0", "QEMU emulator version 9.0.0")


def test_a_build_without_user_networking_is_refused_where_ssh_needs_it(tmp_path: Path) -> None:
    without, having = build(tmp_path, "OLD", "socket\\ntap"), build(tmp_path, "NEW", "socket\\nuser")
    builds = {"OLD": without, "NEW": having}
    with pytest.raises(InputError) as caught:
        check_networks(load("image: /i, connection: ssh"), builds, "t.yml")
    (problem,) = caught.value.problems
    assert problem.where == "t.yml: builds.OLD"
    assert "without user networking (slirp)" in problem.message
    assert "--enable-slirp" in str(problem.remedy)
    # To prepare an image, one build that can is enough; and without SSH none is needed.
    check_networks(load("image: /i"), builds, "t.yml")
    check_networks(load("image: /i, prepare: false"), {"OLD": without}, "t.yml")
    with pytest.raises(InputError) as caught:
        check_networks(load("image: /i"), {"OLD": without}, "t.yml")
    assert "guest.prepare: false" in str(caught.value.problems[0].remedy)


def test_a_run_goes_on_with_the_copy_it_began_with_and_no_other(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"the copy")
    image = GuestImage(
        "", "", "0", "6.1", "fio-3.33", source="/i", disk=str(disk), disk_sha256=sha256_of(disk)
    )
    check_image_unchanged(image)
    disk.write_bytes(b"another")
    with pytest.raises(HarnessError, match="changed since the run began"):
        check_image_unchanged(image)
    disk.unlink()
    with pytest.raises(HarnessError, match="copy of /i, is gone"):
        check_image_unchanged(image)


def test_playbook_and_harness_agree_on_places_and_names() -> None:
    role = resource_dir("playbooks") / "roles" / "guest_fio"
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    assert f"{defaults['guest_fio_directory']}/fio.sh" == FIO_SCRIPT
    assert defaults["guest_fio_key_comment"] == KEY_COMMENT
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    assert set(defaults) | {"guest_fio_script"} == set(options)


def test_doctor_names_copies_and_what_a_killed_run_left(tmp_path: Path) -> None:
    place = tmp_path / "images" / "disk-1"
    place.mkdir(parents=True)
    image = GuestImage("", "", "a" * 64, "6.1", "fio-3.33", source="/my.qcow2", distribution="Debian 12")
    (place / "image.json").write_text(json.dumps({"image": asdict(image)}))
    (tmp_path / "guest").mkdir()
    copy, left = [finding for finding in examine(Workspace(tmp_path)) if finding.what == "guest image"]
    assert (copy.health, copy.found) == (Health.OK, f"copy of /my.qcow2 [{'a' * 12}]: Debian 12, fio-3.33")
    assert (left.health, left.remedy) == (Health.NOTE, "the next run removes them")
    (place / "image.json").write_text("{}")
    (damaged, _left) = [finding for finding in examine(Workspace(tmp_path)) if finding.what == "guest image"]
    assert damaged.health is Health.BROKEN


def test_what_disk_images_cost_is_remembered_apart(tmp_path: Path) -> None:
    path = tmp_path / "experience.json"
    guess, disk_guess = recall(path, Accel.TCG), recall(path, Accel.TCG, disk_image=True)
    assert disk_guess.costs.session > guess.costs.session
    known = Experience(Costs(session=99.0, iteration=1.0), guess.noise, measured=True)
    remember(path, Accel.TCG, known, disk_image=True)
    assert recall(path, Accel.TCG, disk_image=True) == known
    assert recall(path, Accel.TCG) == guess
