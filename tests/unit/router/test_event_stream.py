"""Event streams, held against botocore's reader."""

import struct
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.aws.event_stream import (
    EventStreamError,
    EventStreamSplitter,
    Message,
)
from tests.fakes.event_stream import Raw, event, exception, frame


def raw(code: int, form: str, low: int, high: int) -> st.SearchStrategy[Raw]:
    return st.integers(low, high).map(lambda n: Raw(bytes([code]) + struct.pack(form, n)))


VALUES = st.one_of(
    st.booleans(),
    st.text(max_size=9),
    st.binary(max_size=9),
    raw(2, ">b", -128, 127),
    raw(3, ">h", -(2**15), 2**15 - 1),
    raw(4, ">i", -(2**31), 2**31 - 1),
    raw(5, ">q", -(2**63), 2**63 - 1),
    raw(8, ">q", 0, 2**41),
    st.uuids().map(lambda one: Raw(b"\x09" + one.bytes)),
)
FRAMES = st.lists(
    st.builds(
        frame,
        st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=4),
        st.binary(max_size=40),
    ),
    max_size=4,
)


def theirs(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


def plain(value: Any) -> Any:
    """Return a header's value of theirs in our form."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=UTC).timestamp() * 1000)
    return value.bytes if isinstance(value, uuid.UUID) else value


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(frames=FRAMES, sizes=st.lists(st.integers(0, 30), max_size=20))
def test_any_split_gives_the_messages_that_botocore_reads(
    frames: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(frames)
    splitter = EventStreamSplitter()

    found = [message for piece in cut(data, sizes) for message in splitter.feed(piece)]

    want = [
        ({name: plain(value) for name, value in headers.items()}, payload)
        for headers, payload in theirs(data)
    ]
    assert want == [(message.headers, message.payload) for message in found]
    assert len(frames) == len(found)
    assert not splitter.has_rest


@given(data=FRAMES.map(b"".join), at=st.integers(0), bit=st.integers(0, 7))
def test_a_bit_that_fell_over_is_seen(data: bytes, at: int, bit: int) -> None:
    if not data:
        return
    broken = bytearray(data)
    broken[at % len(data)] ^= 1 << bit
    splitter = EventStreamSplitter()

    # A length that grew makes the message wait for more, but its checksum is wrong by then.
    with pytest.raises(EventStreamError):
        splitter.feed(bytes(broken))


@pytest.mark.parametrize(
    "broken",
    [
        frame({"a": Raw(b"\x0a")}),
        frame({"a": Raw(b"\x07\x00\x09a")}),
        frame({"a": Raw(b"\x05\x00")}),
        frame({"a": Raw(b"\x09abc")}),
        frame({"a": Raw(b"\x07\x00\x01\xff")}),
        frame({"a": Raw(b"\x00\x01a\x00")}),
    ],
)
def test_headers_that_make_no_sense_are_refused(broken: bytes) -> None:
    with pytest.raises(EventStreamError):
        EventStreamSplitter().feed(broken)


def test_message_that_is_too_long_is_refused_by_its_prelude() -> None:
    splitter = EventStreamSplitter(payload_bytes_max=100)

    with pytest.raises(EventStreamError, match="length"):
        splitter.feed(event("x", b"y" * 101)[:12])


def test_text_of_a_header_is_asked_by_name() -> None:
    (message,) = EventStreamSplitter().feed(exception("throttlingException", b"{}"))

    assert "exception" == message.text(":message-type")
    assert "" == message.text("nothing")
    assert "" == Message({"a": 7}, b"").text("a")
