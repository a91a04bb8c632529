"""How the journal's records lie in a file: length, checksum, payload, one after the other.

Pure. The checksum covers the length and starts from a seed, so that zeros, which is what follows
the last record, are no record.
"""

import struct
import zlib
from mmap import mmap
from typing import Final

HEADER: Final = struct.Struct("<II")
_SEED: Final = 0x54504A31


def frame(payload: bytes) -> bytes:
    """Return the bytes that keep `payload` as one record."""
    size = len(payload)
    return HEADER.pack(size, zlib.crc32(payload, size ^ _SEED)) + payload


def write_frame(room: mmap, at: int, payload: bytes) -> int:
    """Write `payload` as one record at `at` and return where it ends.

    The header comes last: until it is there the record is not.
    """
    size = len(payload)
    start = at + HEADER.size
    room[start : start + size] = payload
    HEADER.pack_into(room, at, size, zlib.crc32(payload, size ^ _SEED))
    return start + size


def read_frames(data: bytes) -> tuple[list[bytes], int]:
    """Return the payloads up to the first torn or changed record, and how many bytes they took."""
    payloads: list[bytes] = []
    at = 0
    while at + HEADER.size <= len(data):
        size, checksum = HEADER.unpack_from(data, at)
        start = at + HEADER.size
        payload = data[start : start + size]
        if len(payload) != size or zlib.crc32(payload, size ^ _SEED) != checksum:
            break
        payloads.append(payload)
        at = start + size
    return payloads, at
