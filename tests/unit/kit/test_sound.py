"""How long sound is, as far as its form tells."""

import struct

import pytest

from kit.sound import wav_seconds
from tests.fixtures.media import wav


def extensible(*, subformat: int) -> bytes:
    form = struct.pack("<HHIIHH", 0xFFFE, 1, 8_000, 16_000, 2, 16)
    form += struct.pack("<HHIH", 22, 16, 4, subformat) + bytes(14)
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<I", len(form))
    return head + form + b"data" + bytes(4) + bytes(16_000)


def test_extensible_form_is_read_as_well() -> None:
    assert 1 == wav_seconds(extensible(subformat=1))


@pytest.mark.parametrize(("seconds", "rate"), [(0, 8_000), (1.5, 8_000), (10, 44_100)])
def test_plain_samples_tell_their_length(seconds: float, rate: int) -> None:
    assert seconds == wav_seconds(wav(seconds, rate=rate))


def test_length_follows_from_what_is_there_and_not_from_what_the_headers_say() -> None:
    sound = bytearray(wav(2))
    at = sound.index(b"data") + 4
    sound[at : at + 4] = struct.pack("<I", 1)
    rate_at = sound.index(b"fmt ") + 16
    sound[rate_at : rate_at + 4] = struct.pack("<I", 2**31)
    other = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 8, 192_000, 0, 0, 64)
    samples_at = sound.index(b"data")
    sound[samples_at:samples_at] = other

    assert 2 == wav_seconds(bytes(sound))


@pytest.mark.parametrize(
    "sound",
    [
        b"",
        b"ID3" + bytes(100),
        wav(1)[:20],
        wav(1).replace(b"data", b"junk"),
        wav(1).replace(b"fmt \x10\x00\x00\x00\x01\x00", b"fmt \x10\x00\x00\x00\x11\x00"),
        wav(1).replace(struct.pack("<I", 8_000), bytes(4)),
        b"RIFF\x00\x00\x00\x00WAVE" + b"junk\x00\x00\x00\x00" * 200,
        wav(1, rate=192_001),
        extensible(subformat=0x11),
    ],
    ids=[
        "empty", "mp3", "cut", "no_samples", "compressed", "no_rate", "many_chunks", "odd_rate",
        "compressed_within",
    ],
)  # fmt: skip
def test_anything_else_does_not_tell(sound: bytes) -> None:
    assert wav_seconds(sound) is None
