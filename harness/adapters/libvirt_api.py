"""libvirt's Python modules, made quiet, and its event loop. The only module that imports them."""

from __future__ import annotations

import os
import threading

# libvirt reads this when it is loaded, and chats on stderr unless told not to.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt
import libvirt_qemu

__all__ = ["ensure_event_loop", "libvirt", "libvirt_qemu"]

_STARTED = threading.Event()
_STARTING = threading.Lock()


def ensure_event_loop() -> None:
    """Run libvirt's own event loop in a thread: one a process, and before any connection is opened."""
    with _STARTING:
        if _STARTED.is_set():
            return
        libvirt.registerErrorHandler(_quiet, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _STARTED.set()


def _quiet(_context: object, _error: object) -> None:
    """Take libvirt's messages off stderr; every one of them also arrives as an exception."""


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
