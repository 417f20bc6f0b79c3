"""What a guest is told at its first boot: cloud-init's NoCloud seed."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

KEY_COMMENT = "qemu-ab-harness"
"""By which keys of the harness are known in a guest."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key.

    Attributes:
        private: in OpenSSH's format.
        public: one line: ``ssh-ed25519 AAAA... qemu-ab-harness``.
    """

    private: str
    public: str


def user_data(*, login: str, host: KeyPair) -> str:
    """Return the seed's user-data: who may log in as root, and the key the guest shows.

    Only keys: no packages, no users, nothing that would make one boot unlike another.

    Args:
        login: the public key that root accepts.
        host: the guest's own key; it shows no other.
    """
    config = {
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host.private, "ed25519_public": host.public},
        # Instead of the image's default user; a locked password would keep sshd without PAM from any login.
        "users": [{"name": "root", "lock_passwd": False, "ssh_authorized_keys": [login]}],
        "package_update": False,
        "package_upgrade": False,
        "resize_rootfs": False,
        "growpart": {"mode": "off"},
    }
    return "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=2**16)


def meta_data(instance: str) -> str:
    """Return the seed's meta-data; a new instance is what makes cloud-init read the seed again."""
    return yaml.safe_dump({"instance-id": instance, "local-hostname": "harness-guest"}, sort_keys=False)


def known_host(name: str, public: str) -> str:
    """Return the line of known_hosts that pins a host's key, without the key's comment."""
    kind, key = public.split()[:2]
    return f"{name} {kind} {key}\n"
