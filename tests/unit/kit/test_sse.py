"""The splitter of event streams: what comes out does not depend on how the stream was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.sse import EventTooLargeError, SseEvent, SseSplitter, events


def split(pieces: list[bytes]) -> bytes:
    splitter = SseSplitter(event_bytes_max=10_000)
    return b"".join([*(splitter.feed(piece) for piece in pieces), splitter.finish()])


def cut(stream: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(stream) + 1) for position in positions), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


LINES = st.sampled_from(
    [
        "data: a",
        "data:b",
        'data: {"é": "日本"}',
        ": comment",
        "",
        "event: x",
        "data",
        "id: 1",
        "junk",
    ]
)


def test_complete_read_passes_as_it_is() -> None:
    splitter = SseSplitter(event_bytes_max=100)

    assert b"data: a\n\ndata: b\n\n" == splitter.feed(b"data: a\n\ndata: b\n\n")


def test_only_the_incomplete_tail_is_held_back() -> None:
    splitter = SseSplitter(event_bytes_max=100)

    assert b"data: a\n\n" == splitter.feed(b"data: a\n\ndata: b")
    assert b"" == splitter.feed(b"\n")
    assert b"data: b\n\n" == splitter.feed(b"\n")


def test_event_ended_by_cr_is_given_before_its_lf_comes() -> None:
    splitter = SseSplitter(event_bytes_max=100)

    assert b"data: a\n\n" == splitter.feed(b"data: a\r\n\r")
    assert b"data: b\n\n" == splitter.feed(b"\ndata: b\r\n\r\n")


def test_event_longer_than_the_bound_is_refused() -> None:
    splitter = SseSplitter(event_bytes_max=10)
    splitter.feed(b"data: 4567")

    with pytest.raises(EventTooLargeError):
        splitter.feed(b"x")


def test_event_that_lacks_its_blank_line_is_given_at_the_end() -> None:
    assert b"data: a\n\ndata: b\n\n" == split([b"data: a\n\nda", b"ta: b\n"])


def test_byte_order_mark_is_dropped_wherever_it_is_cut() -> None:
    stream = b"\xef\xbb\xbfdata: a\n\n"

    for position in range(len(stream)):
        assert b"data: a\n\n" == split([stream[:position], stream[position:]])


@given(
    st.lists(LINES, max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=20),
)
def test_any_cut_of_any_line_ends_gives_the_same_events(
    lines: list[str], end: str, has_bom: bool, positions: list[int]
) -> None:
    stream = (end.join(lines) + end + end).encode()
    plain = ("\n".join(lines) + "\n\n").encode()

    found = split(cut(b"\xef\xbb\xbf" * has_bom + stream, positions))

    assert list(events(plain)) == list(events(found))


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=10))
def test_no_bytes_make_it_fail(stream: bytes, positions: list[int]) -> None:
    found = split(cut(stream, positions))

    assert b"\r" not in found
    assert found.replace(b"\n", b"") in stream.replace(b"\r", b"").replace(b"\n", b"")


def test_fields_are_read_as_the_standard_says() -> None:
    block = b": hi\nevent: ping\ndata: one\ndata:two\ndata\nid: 7\n\n: only\n\ndata:  x\n\n"

    assert [SseEvent("ping", b"one\ntwo\n"), SseEvent("", b" x")] == list(events(block))
