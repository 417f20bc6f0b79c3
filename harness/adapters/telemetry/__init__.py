"""What QEMU and the host did while a session ran."""
