"""How long uncompressed sound is; pure.

Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), and Microsoft's
"Multiple Channel Audio Data and WAVE Files" for the extensible form.
"""

import struct
from typing import Final

_PLAIN_FORMATS: Final = frozenset({1, 3, 0xFFFE})
_CHUNKS_MAX: Final = 64
_FORMAT: Final = struct.Struct("<HHIIHH")


def wav_seconds(data: bytes) -> float | None:
    """Return the length of a WAV file of plain samples; None for anything else.

    It follows from the form of the samples and from how many bytes of them are there, not from what
    the headers say about the length.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, bytes_per_s = 12, 0.0
    for _ in range(_CHUNKS_MAX):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt " and size >= _FORMAT.size <= len(data) - at - 8:
            kind, channels, rate, _, _, bits = _FORMAT.unpack_from(data, at + 8)
            bytes_per_s = rate * channels * bits / 8 if kind in _PLAIN_FORMATS else 0.0
        elif name == b"data":
            return (len(data) - at - 8) / bytes_per_s if bytes_per_s else None
        at += 8 + size + size % 2
    return None
