"""A fio-driven A/B benchmark harness for virtualization: did this QEMU get slower?"""

__version__ = "0.1.0"
