"""How long uncompressed sound is; pure.

Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), and Microsoft's
"Multiple Channel Audio Data and WAVE Files" for the extensible form.
"""

import struct
from typing import Final

_PLAIN_FORMATS: Final = frozenset({1, 3})
_EXTENSIBLE: Final = 0xFFFE
_SUBFORMAT_AT: Final = 24
_CHUNKS_MAX: Final = 64
_CHANNELS_MAX: Final = 8
_RATE_MAX: Final = 192_000
_BITS: Final = frozenset({8, 16, 24, 32, 64})
_FORMAT: Final = struct.Struct("<HHIIHH")


def wav_seconds(data: bytes) -> float | None:
    """Return the length of a WAV file of plain samples; None for anything else.

    It follows from the form of the samples and from how many bytes of them are there, not from what
    the headers say about the length.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, bytes_per_s = 12, 0
    for _ in range(_CHUNKS_MAX):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt ":
            # Decoders take the first form, and so nobody can hide another one behind it.
            bytes_per_s = bytes_per_s or _bytes_per_s(data[at + 8 : at + 8 + size])
            if not bytes_per_s:
                return None
        elif name == b"data":
            return (len(data) - at - 8) / bytes_per_s if bytes_per_s else None
        at += 8 + size + size % 2
    return None


def _bytes_per_s(form: bytes) -> int:
    """Return how many bytes a second of such samples has; 0 when they are not plain, or odd."""
    if len(form) < _FORMAT.size:
        return 0
    kind, channels, rate, _, _, bits = _FORMAT.unpack_from(form)
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(form[_SUBFORMAT_AT : _SUBFORMAT_AT + 2], "little")
    is_plain = kind in _PLAIN_FORMATS and bits in _BITS
    if not (is_plain and 0 < channels <= _CHANNELS_MAX and 0 < rate <= _RATE_MAX):
        return 0
    return int(rate * channels * bits // 8)
