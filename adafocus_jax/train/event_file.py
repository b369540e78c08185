"""What a TensorBoard event file holds: records of TFRecord, each a protocol buffer ``Event``, as bytes.

Four small messages do not need a package of their own: tensorboardX imports PyTorch wherever that is installed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable

VERSION = b"brain.Event:2"
"""Of the first event of a file."""

_FLOAT64, _MESSAGE, _FLOAT32 = 1, 2, 5  # wire types; 0 is an integer
_POLYNOMIAL = 0x82F63B78


def scalar(tag: str, value: float) -> bytes:
    """A ``Summary.Value`` that is a number, kept in float32."""
    return _message(1, tag.encode()) + _key(2, _FLOAT32) + array("f", [value]).tobytes()  # 1e39 is infinite


def picture(tag: str, shape: tuple[int, ...], encoded: bytes) -> bytes:
    """A ``Summary.Value`` that is an RGB picture of ``shape`` ``(H, W, 3)``, ``encoded`` as JPEG or PNG."""
    height, width, _ = shape
    image = _integer(1, height) + _integer(2, width) + _integer(3, 3) + _message(4, encoded)
    return _message(1, tag.encode()) + _message(4, image)


def version_event(wall_time_sec: float) -> bytes:
    """The first event of a file."""
    return _time(wall_time_sec) + _message(3, VERSION)


def start_event(wall_time_sec: float, step: int) -> bytes:
    """Makes TensorBoard discard what earlier files hold of ``step`` and later ones."""
    return _time(wall_time_sec) + _integer(2, step) + _message(7, _integer(1, 1))


def summary_event(wall_time_sec: float, step: int, values: Iterable[bytes]) -> bytes:
    """Values of ``scalar`` and ``picture`` at a step."""
    summary = b"".join(_message(1, value) for value in values)
    return _time(wall_time_sec) + _integer(2, step) + _message(5, summary)


def record(data: bytes) -> bytes:
    """``data`` as a TFRecord: its length, and masked checksums of the length and of the data."""
    length = struct.pack("<Q", len(data))
    return length + _masked_checksum(length) + data + _masked_checksum(data)


def crc32c(data: bytes) -> int:
    """The cyclic redundancy check of Castagnoli's polynomial.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


_CRC = [_crc_of_byte(byte) for byte in range(256)]


def _masked_checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _time(wall_time_sec: float) -> bytes:
    return _key(1, _FLOAT64) + struct.pack("<d", wall_time_sec)


def _message(field: int, data: bytes) -> bytes:
    return _key(field, _MESSAGE) + _varint(len(data)) + data


def _integer(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first.

    >>> _varint(300).hex()
    'ac02'
    """
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
