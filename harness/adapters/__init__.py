"""Thin adapters, one outside world each: libvirt, ansible-runner, the guest, processes, files, the host."""
