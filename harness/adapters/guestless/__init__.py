"""Loads that need no guest: QEMU under the qtest protocol, callgrind, qemu-img."""
