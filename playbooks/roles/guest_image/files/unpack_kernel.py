"""Take the kernel out of the packing that it is booted in on real hardware.

usage: unpack_kernel.py VMLINUZ OUT

QEMU starts an unpacked kernel directly (by its PVH entry), where a packed one has to unpack itself first, which
under emulation takes a second of each boot. Exit code 1 and a word on stderr: this one has to stay as it is.

Formats: Documentation/arch/x86/boot.rst of Linux (setup header), and xen/include/public/elfnote.h (PVH).
"""

import gzip
import lzma
import struct
import subprocess
import sys

PACKINGS = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ\x00": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x02\x21\x4c\x18": lambda data: by_command(["lz4", "-d", "-c"], data),
    b"\x28\xb5\x2f\xfd": lambda data: by_command(["zstd", "-d", "-c", "-q"], data),
}
NOTE, PVH_ENTRY = 4, 18


def by_command(argv, data):
    """Return what a command makes of its input."""
    return subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout


def payload_of(image):
    """Return the packed kernel of a bzImage; behind it stands its unpacked size, which is no part of it."""
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("it is no bzImage")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    return image[start : start + length - 4]


def unpack(payload):
    """Return the kernel's ELF file."""
    for magic, unpacked in PACKINGS.items():
        if payload.startswith(magic):
            return unpacked(payload)
    raise ValueError(f"it is packed in a way unknown here ({payload[:6].hex()})")


def has_pvh_entry(kernel):
    """Return whether QEMU can start it: whether a note says where."""
    if kernel[:6] != b"\x7fELF\x02\x01":
        return False
    offset, size, count = struct.unpack_from("<Q", kernel, 32)[0], *struct.unpack_from("<HH", kernel, 54)
    for number in range(count):
        kind, _flags, at, _virtual, _physical, length = struct.unpack_from(
            "<IIQQQQ", kernel, offset + number * size
        )
        end = at + length
        while kind == NOTE and at + 12 <= end:
            name_size, value_size, note = struct.unpack_from("<III", kernel, at)
            if note == PVH_ENTRY and kernel[at + 12 : at + 16] == b"Xen\0":
                return True
            at += 12 + -(-name_size // 4) * 4 + -(-value_size // 4) * 4
    return False


def main():
    """Do what the command line says."""
    source, out = sys.argv[1:]
    with open(source, "rb") as stream:
        image = stream.read()
    try:
        kernel = unpack(payload_of(image))
    except (ValueError, OSError, EOFError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        sys.exit(f"the kernel stays packed: {error}")
    if not has_pvh_entry(kernel):
        sys.exit("the kernel stays packed: it has no PVH entry")
    with open(out, "wb") as stream:
        stream.write(kernel)


if __name__ == "__main__":
    main()
