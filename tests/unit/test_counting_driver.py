"""The driver: rings, requests and device set-up, against a device that is not ours to please."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtio_device import PackedDevice, PciBus, SplitDevice

from harness.core.counting.pci import DeviceRefusedError, Feature, QueueAddresses, VirtioPci
from harness.core.counting.qtest import (
    QtestReplyError,
    Space,
    is_interrupt,
    parse_reply,
    read_command,
    write_command,
)
from harness.core.counting.queue_memory import Request, RequestFailedError, RequestType, lay_out
from harness.core.counting.rings import PackedRing, SplitRing

BASE = 4096


@st.composite
def queues(draw: st.DrawFn) -> tuple[int, int, bool, list[list[int]]]:
    size = 2 ** draw(st.integers(2, 6))
    indirect = draw(st.booleans())
    depth = draw(st.integers(1, size if indirect else size // 3))
    sectors = st.lists(st.integers(0, 2**40), min_size=1, max_size=depth)
    return size, depth, indirect, draw(st.lists(sectors, min_size=1, max_size=12))


@given(queue=queues(), kind=st.sampled_from(RequestType), backwards=st.booleans())
def test_a_device_sees_the_requests_of_a_split_ring(
    queue: tuple[int, int, bool, list[list[int]]], kind: RequestType, *, backwards: bool
) -> None:
    size, depth, indirect, batches = queue
    layout = lay_out(BASE, size=size, depth=depth, block=512, indirect=indirect)
    memory = bytearray(layout.end)
    ring = SplitRing(memory, layout, kind)
    where = layout.addresses
    device = SplitDevice(memory, size, where.descriptors, where.driver, where.device)
    for batch in batches:
        ring.submit([Request(kind, sector) for sector in batch])
        assert not ring.completed()
        device.serve(backwards=backwards)
        assert ring.completed()
        ring.finish()
    assert [(seen.kind, seen.sector) for seen in device.seen] == [(kind, s) for b in batches for s in b]
    assert all(seen.data_is_written is (kind is RequestType.READ) for seen in device.seen)


@given(queues(), st.sampled_from(RequestType))
def test_a_device_sees_the_requests_of_a_packed_ring(
    queue: tuple[int, int, bool, list[list[int]]], kind: RequestType
) -> None:
    size, depth, indirect, batches = queue
    layout = lay_out(BASE, size=size, depth=depth, block=512, indirect=indirect)
    memory = bytearray(layout.end)
    ring = PackedRing(memory, layout, kind)
    device = PackedDevice(memory, size, layout.addresses.descriptors)
    for batch in batches:
        ring.submit([Request(kind, sector) for sector in batch])
        assert not ring.completed()
        device.serve()
        assert ring.completed()
        ring.finish()
    assert [(seen.kind, seen.sector) for seen in device.seen] == [(kind, s) for b in batches for s in b]
    assert all(seen.data_is_written is (kind is RequestType.READ) for seen in device.seen)


@pytest.mark.parametrize(("status", "said"), [(1, "an I/O error"), (2, "unsupported"), (255, "no status")])
def test_a_request_that_fails_is_noticed(status: int, said: str) -> None:
    layout = lay_out(BASE, size=8, depth=2, block=4096, indirect=False)
    memory = bytearray(layout.end)
    ring = SplitRing(memory, layout, RequestType.READ)
    where = layout.addresses
    ring.submit([Request(RequestType.READ, 8)] * 2)
    SplitDevice(memory, 8, where.descriptors, where.driver, where.device).serve(status=status)
    with pytest.raises(RequestFailedError, match=said):
        ring.finish()


def test_no_two_parts_of_a_queue_share_memory() -> None:
    layout = lay_out(BASE, size=16, depth=5, block=512, indirect=True)
    parts = [
        (layout.addresses.descriptors, 256),
        (layout.addresses.driver, 38),
        (layout.addresses.device, 134),
    ]
    for slot in layout.slots:
        parts += [(slot.header, 16), (slot.data, 512), (slot.status, 1), (slot.table, 48)]
    parts.sort()
    assert all(start + length <= following for (start, length), (following, _) in itertools.pairwise(parts))
    assert parts[0][0] >= BASE
    assert sum(parts[-1]) <= layout.end


def test_more_requests_than_a_queue_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="9 requests take 27 descriptors, the queue has 16"):
        lay_out(0, size=16, depth=9, block=512, indirect=False)


def test_a_device_is_found_placed_and_started() -> None:
    bus = PciBus(circle=True)
    device = VirtioPci(bus, 4, 0xE000_0000)
    device.negotiate({Feature.VERSION_1, Feature.INDIRECT_DESC})
    bell = device.start_queue(0, 128, QueueAddresses(0x1_0000_1000, 0x2000, 0x3000))
    device.start()
    bell.ring()
    assert bus.base == 0xE000_0000
    assert bus.accepted == 1 << 32 | 1 << 28
    assert (bus.registers[0x20], bus.registers[0x24], bus.registers[0x28]) == (0x1000, 1, 0x2000)
    assert bus.registers[0x18] == 128
    assert bus.registers[0x14] == 15
    assert bus.kicks == [2 * 4], "notify offset times multiplier"
    assert device.sectors == 2048
    assert bus.config[4] & 6 == 6, "memory and bus mastering are on"


def test_what_a_device_lacks_is_named() -> None:
    with pytest.raises(DeviceRefusedError, match="slot 5 holds no virtio device"):
        VirtioPci(PciBus(), 5, 0xE000_0000)
    with pytest.raises(DeviceRefusedError, match="no modern virtio device: no common, notify, device"):
        VirtioPci(PciBus(capabilities=False), 4, 0xE000_0000)
    with pytest.raises(DeviceRefusedError, match="does not offer RING_PACKED"):
        VirtioPci(PciBus(), 4, 0xE000_0000).negotiate({Feature.VERSION_1, Feature.RING_PACKED})
    with pytest.raises(DeviceRefusedError, match="refuses the features VERSION_1"):
        VirtioPci(PciBus(accepts=False), 4, 0xE000_0000).negotiate({Feature.VERSION_1})
    with pytest.raises(DeviceRefusedError, match="at most 64 descriptors, not 128"):
        VirtioPci(PciBus(largest=64), 4, 0xE000_0000).start_queue(0, 128, QueueAddresses(0, 0, 0))


# -- the qtest protocol --------------------------------------------------------------------------------------


def test_commands_are_qtest_lines() -> None:
    assert read_command(Space.PORT, 4, 0xCFC) == b"inl 0xcfc\n"
    assert read_command(Space.MEMORY, 8, 16) == b"readq 0x10\n"
    assert write_command(Space.PORT, 2, 0xCFC, 6) == b"outw 0xcfc 0x6\n"
    assert write_command(Space.MEMORY, 1, 0xE0000014, 15) == b"writeb 0xe0000014 0xf\n"


@pytest.mark.parametrize(
    ("space", "width", "value"),
    [(Space.PORT, 8, 0), (Space.MEMORY, 3, 0), (Space.MEMORY, 2, 65536), (Space.MEMORY, 2, -1)],
)
def test_what_is_no_access_is_no_command(space: Space, width: int, value: int) -> None:
    with pytest.raises(ValueError, match=r"access|fit"):
        write_command(space, width, 0, value)


@given(st.integers(0, 2**64 - 1))
def test_values_come_back(value: int) -> None:
    assert parse_reply(f"OK 0x{value:016x}".encode()) == value


@given(st.binary(max_size=40))
def test_every_other_answer_is_refused(line: bytes) -> None:
    words = line.split()
    if words[:1] == [b"OK"] and len(words) <= 2:
        return
    with pytest.raises(QtestReplyError):
        parse_reply(line)


def test_answers_without_values_refusals_and_interrupts() -> None:
    assert parse_reply(b"OK") is None
    assert is_interrupt(b"IRQ raise 11")
    assert not is_interrupt(b"OK 0x1")
    with pytest.raises(QtestReplyError, match="FAIL Unknown command"):
        parse_reply(b"FAIL Unknown command 'inq'")
    with pytest.raises(QtestReplyError, match="no number"):
        parse_reply(b"OK seven")
