"""Write numbers to a file that TensorBoard shows."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path

POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed


def make_table() -> tuple[int, ...]:
    """Return the checksum of each byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


TABLE = make_table()


class EventFile:
    """A file of TensorBoard's format: records, each with its length and two checksums."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"events.out.tfevents.{time.time_ns() // 1000:020d}.sameface"
        self._write(field_text(3, b"brain.Event:2"))

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add numbers by their names, as one step's."""
        values = b"".join(
            field_text(1, field_text(1, name.encode()) + b"\x15" + struct.pack("<f", number))
            for name, number in numbers.items()
        )
        self._write(b"\x10" + varint(step) + field_text(5, values))

    def _write(self, event: bytes) -> None:
        data = b"\x09" + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(data))
        record = length + checksum(length) + data + checksum(data)
        with self.path.open("ab") as file:
            file.write(record)


def field_text(number: int, data: bytes) -> bytes:
    """Return a field of bytes of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(number: int) -> bytes:
    """Return a whole number, seven bits to a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)
