"""The connection without a socket: parsing against http.client, limits, endings, reuse."""

import asyncio
import http.client
import io
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.outbox import Outbox
from services.router.upstream_connection import HttpConnection
from services.router.upstream_types import (
    HttpLimits,
    UpstreamClosedError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

LIMITS = HttpLimits(head_bytes_max=4_000, header_count_max=20, unread_bytes_max=2_000)


class Wire:
    """Stands where the transport is."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False
        self.is_reading = True

    def write(self, part: bytes) -> None:
        self.written += part

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written += b"".join(parts)

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Rig:
    """A connection that has sent a request."""

    def __init__(self, limits: HttpLimits = LIMITS) -> None:
        self.loop = asyncio.get_running_loop()
        self.free: list[HttpConnection] = []
        self.lost: list[HttpConnection] = []
        self.wire = Wire()
        self.outbox = Outbox(self.loop)
        self.connection = HttpConnection(
            self.loop,
            limits,
            outbox=self.outbox,
            on_free=self.free.append,
            on_lost=self.lost.append,
        )
        wire: Any = self.wire
        self.connection.connection_made(wire)
        self.send(b"POST / HTTP/1.1\r\n\r\n")

    def send(self, head: bytes) -> None:
        self.connection.send(head, b"")
        self.outbox.flush()

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.wire.is_aborted:
                self.connection.data_received(piece)

    def end(self) -> None:
        if not self.wire.is_aborted:
            self.connection.eof_received()
        self.connection.connection_lost(None)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        deadline_s = self.loop.time() + 1
        head = await self.connection.head(deadline_s)
        body = b""
        while data := await self.connection.read(deadline_s):
            body += data
        return head.status, head.headers, body


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def oracle(stream: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return what the standard library makes of an answer."""
    source: Any = _Socket(stream)
    answer = http.client.HTTPResponse(source, method="POST")
    answer.begin()
    headers: dict[bytes, bytes] = {}
    for name, value in answer.getheaders():
        key = name.lower().encode("latin-1")
        text = value.encode("latin-1")
        headers[key] = headers[key] + b", " + text if key in headers else text
    return answer.status, headers, answer.read()


def framed(body: bytes, how: str, sizes: list[int], extension: str, trailer: str) -> bytes:
    if how == "length":
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if how == "close":
        return b"Connection: close\r\n\r\n" + body
    out, at, turn = b"Transfer-Encoding: chunked\r\n\r\n", 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)] if sizes else len(body)
        part = body[at : at + size]
        out += b"%x%b\r\n%b\r\n" % (len(part), extension.encode(), part)
        at, turn = at + size, turn + 1
    return out + b"0\r\n" + trailer.encode() + b"\r\n"


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9\-]{0,10}", fullmatch=True).map(lambda name: "X-" + name)
VALUES = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)
ANSWERS = st.builds(
    lambda status, headers, rest: (
        f"HTTP/1.1 {status} Fine\r\n".encode()
        + "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        + rest
    ),
    st.sampled_from([200, 201, 400, 404, 429, 500, 529]),
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.builds(
        framed,
        st.binary(max_size=400),
        st.sampled_from(["length", "chunked", "close"]),
        st.lists(st.integers(1, 50), max_size=5),
        st.sampled_from(["", ";a=b", ";q"]),
        st.sampled_from(["", "X-T: 1\r\n"]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(ANSWERS, st.lists(st.integers(0, 1_000), max_size=12), st.integers(0, 2))
def test_valid_answer_cut_anywhere_parses_as_the_standard_library_does(
    stream: bytes, positions: list[int], interim: int
) -> None:
    stream = b"HTTP/1.1 100 Continue\r\n\r\n" * interim + stream
    edges = [0, *sorted(p % (len(stream) + 1) for p in positions), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]

    async def parse() -> tuple[int, dict[bytes, bytes], bytes]:
        rig = Rig()
        rig.feed(*pieces)
        rig.end()
        return await rig.answer()

    assert oracle(stream) == asyncio.run(parse())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_junk_never_raises_out_of_the_event_loop_callbacks(data: bytes, cuts: list[int]) -> None:
    stream = b"HTTP/1.1 200 OK\r\n" + data
    edges = [0, *sorted(p % (len(stream) + 1) for p in cuts), len(stream)]

    async def parse() -> None:
        rig = Rig()
        rig.feed(*(stream[a:b] for a, b in itertools.pairwise(edges) if a < b))
        rig.end()
        try:
            await rig.answer()
        except (UpstreamProtocolError, UpstreamClosedError):
            assert rig.free == []

    asyncio.run(parse())


@pytest.mark.parametrize(
    "stream",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(30)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 5_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 300,
    ],
)
async def test_answer_that_is_wrong_or_breaks_a_limit_is_a_protocol_error(stream: bytes) -> None:
    rig = Rig()
    rig.feed(*(stream[at : at + 100] for at in range(0, len(stream), 100)))

    with pytest.raises(UpstreamProtocolError):
        await rig.answer()
    assert rig.wire.is_aborted


@pytest.mark.parametrize(
    ("stream", "is_untouched"),
    [
        (b"", True),
        (b"HTTP/1.1 2", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", False),
    ],
)
async def test_early_end_is_told_with_whether_anything_had_come(
    stream: bytes, is_untouched: bool
) -> None:
    rig = Rig()
    rig.feed(*([stream] if stream else []))
    rig.end()

    with pytest.raises(UpstreamClosedError) as caught:
        await rig.answer()
    assert is_untouched == caught.value.is_untouched
    assert [rig.connection] == rig.lost


async def test_bytes_before_an_early_end_are_given_first() -> None:
    rig = Rig()
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    rig.end()
    deadline_s = rig.loop.time() + 1

    assert 200 == (await rig.connection.head(deadline_s)).status
    assert b"ab" == await rig.connection.read(deadline_s)
    with pytest.raises(UpstreamClosedError):
        await rig.connection.read(deadline_s)


async def test_complete_answer_frees_the_connection_for_the_next() -> None:
    rig = Rig()
    for text in (b"one", b"two"):
        rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + text)

        assert text == (await rig.answer())[2]
        rig.connection.release(may_linger=False)
        assert rig.connection.is_usable
        rig.send(b"")
    assert 2 == len(rig.free)
    assert rig.connection.is_reused


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab surplus",
    ],
)
async def test_connection_that_is_ended_or_out_of_step_is_not_used_again(stream: bytes) -> None:
    rig = Rig()
    rig.feed(stream)

    assert b"ab" == (await rig.answer())[2]
    rig.connection.release(may_linger=False)
    assert rig.wire.is_aborted
    assert [] == rig.free


async def test_idle_connection_that_speaks_unasked_is_dropped() -> None:
    rig = Rig()
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await rig.answer()
    rig.connection.release(may_linger=False)

    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")

    assert rig.wire.is_aborted
    assert not rig.connection.is_usable


async def test_incomplete_answer_aborts_unless_it_may_linger() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
    dropped, lingering = Rig(), Rig()
    for rig in (dropped, lingering):
        rig.feed(head)
        await rig.connection.head(rig.loop.time() + 1)

    dropped.connection.release(may_linger=False)
    lingering.connection.release(may_linger=True)
    lingering.feed(b"cde")

    assert dropped.wire.is_aborted
    assert [lingering.connection] == lingering.free


async def test_lingering_ends_at_its_time_or_size() -> None:
    limits = HttpLimits(linger_s=0.01, linger_bytes_max=100)
    slow, long = Rig(limits), Rig(limits)
    for rig in (slow, long):
        rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        await rig.connection.head(rig.loop.time() + 1)
        rig.connection.release(may_linger=True)

    long.feed(b"x" * 200)
    while not slow.wire.is_aborted:
        await asyncio.sleep(0.001)

    assert long.wire.is_aborted
    assert [] == slow.free == long.free


async def test_unread_bytes_pause_the_wire_until_they_are_read() -> None:
    rig = Rig()
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x" * 3_000)
    deadline_s = rig.loop.time() + 1
    await rig.connection.head(deadline_s)

    assert not rig.wire.is_reading
    assert 3_000 == len(await rig.connection.read(deadline_s))
    assert rig.wire.is_reading


async def test_whole_body_above_its_bound_is_a_protocol_error() -> None:
    rig = Rig()
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x" * 1_000)
    await rig.connection.head(rig.loop.time() + 1)

    with pytest.raises(UpstreamProtocolError):
        await rig.connection.read_all(rig.loop.time() + 1, 500)


async def test_each_wait_ends_at_its_deadline() -> None:
    rig = Rig()

    with pytest.raises(UpstreamTimeoutError) as head:
        await rig.connection.head(rig.loop.time() + 0.01)
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    await rig.connection.head(rig.loop.time() + 10)
    with pytest.raises(UpstreamTimeoutError) as body:
        await rig.connection.read(rig.loop.time() + 0.01)
    with pytest.raises(UpstreamTimeoutError):
        await rig.connection.read_all(rig.loop.time() - 1, 100)

    assert ("head", "body") == (head.value.phase, body.value.phase)


async def test_later_wait_is_not_cut_by_an_earlier_deadline() -> None:
    rig = Rig()
    with pytest.raises(UpstreamTimeoutError):
        await rig.connection.head(rig.loop.time() + 0.01)
    rig.loop.call_later(0.05, rig.feed, b"HTTP/1.1 204 Nothing\r\n\r\n")

    assert 204 == (await rig.connection.head(rig.loop.time() + 5)).status
    assert b"" == await rig.connection.read(rig.loop.time() + 5)


async def test_server_may_shorten_the_time_a_connection_is_kept() -> None:
    rig = Rig()
    rig.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=1\r\n\r\n")
    await rig.answer()
    rig.connection.release(may_linger=False)

    while not rig.wire.is_aborted:
        await asyncio.sleep(0.001)

    assert not rig.connection.is_usable
