"""Keys made for one run, and the seed disk that brings them into its guests."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from harness.core.guest_seed import KEY_COMMENT, KeyPair

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABEL = "cidata"
"""The label by which cloud-init knows a seed."""

_INTERCHANGE_LEVEL = 4
"""ISO 9660:1999: names as they are written."""


def new_key_pair() -> KeyPair:
    """Return a new ed25519 key; it is nowhere but in what is returned."""
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.OpenSSH, to.NoEncryption()).decode()
    public = key.public_key().public_bytes(to.Encoding.OpenSSH, to.PublicFormat.OpenSSH).decode()
    return KeyPair(private, f"{public} {KEY_COMMENT}")


def write_seed(path: Path, files: Mapping[str, str]) -> None:
    """Write a seed disk: an ISO 9660 file system with cloud-init's files, by name.

    Raises:
        OSError: it cannot be written.
    """
    import pycdlib

    path.touch(0o600)
    disk = pycdlib.PyCdlib()
    disk.new(interchange_level=_INTERCHANGE_LEVEL, vol_ident=LABEL, rock_ridge="1.09", joliet=3)
    for name, text in files.items():
        data = text.encode()
        disk.add_fp(
            io.BytesIO(data), len(data), f"/{name}", rr_name=name, joliet_path=f"/{name}", file_mode=0o100600
        )
    disk.write(str(path))
    disk.close()
