"""Counting instructions a request: virtio rings, the qtest protocol, callgrind's output, the plan."""
