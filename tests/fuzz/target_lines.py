"""Fuzz targets: event streams, headers and addresses, which are read line by line."""

import contextlib
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.anthropic.api import MessagesApi
from gateway.anthropic.stream import MessageStream
from gateway.call import ReadRules, StreamShape
from gateway.credentials import check_form, credential
from gateway.openai.dialect import DIALECTS
from gateway.openai.envelope import read_chat
from gateway.responses.request import read_responses
from gateway.responses.stream import ResponseStream
from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError
from kit.multipart import boundary_of
from kit.public_url import UrlError, is_public, read_public_url
from kit.secrets import token_digest
from kit.sse import EventTooLargeError, SseSplitter, events
from kit.tracing import parse_traceparent
from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.port import Batch, ProviderError
from tests.fakes.openai_calls import make_call
from tests.fuzz.writing import ODD, Writer, failing, source_of

_EVENT_BYTES_MAX: Final = 4096
_SETTINGS: Final = GatewaySettings(imported_prefixes=("sk-infer-",))
_RULES: Final = ReadRules(DIALECTS["openai"], 30_000, lambda: 1_760_000_000_000, lambda: "id")
_CHAT: Final = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
_ASKED: Final = read_responses(b'{"model":"m","input":"x","stream":true}', _RULES)


def sse(data: bytes) -> None:
    """Reads cut anywhere give the same events as one read."""
    source = source_of(data)
    cut = source.ConsumeIntInRange(0, 64)
    stream = source.ConsumeBytes(8192)
    try:
        whole = SseSplitter(event_bytes_max=_EVENT_BYTES_MAX)
        once = whole.feed(stream) + whole.finish()
        parts = SseSplitter(event_bytes_max=_EVENT_BYTES_MAX)
        twice = parts.feed(stream[:cut]) + parts.feed(stream[cut:]) + parts.finish()
    except EventTooLargeError:
        return
    assert list(events(once)) == list(events(twice))


def forward(data: bytes) -> None:
    """What an upstream streams is forwarded or refused, however it is cut."""
    source = source_of(data)
    cut = source.ConsumeIntInRange(0, 256)
    stream = source.ConsumeBytes(8192)
    _forwarded([stream[:cut], stream[cut:]])


_DELTAS: Final = [
    b'{"content":"a"}',
    b'{"role":"assistant","content":""}',
    b'{"reasoning_content":"b"}',
    b'{"refusal":"c"}',
    b'{"tool_calls":[{"index":0,"id":"d","type":"function","function":{"name":"f"}}]}',
    b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}',
    b'{"tool_calls":[{"index":1,"function":{"name":"g","arguments":"1}"}}]}',
    b'{"tool_calls":[{"function":{"arguments":{"a":1}}}]}',
    b'{"content":[{"type":"text","text":"e"}],"tool_calls":null}',
    b"{}",
]
_FINISHES: Final = [b"null", b'"stop"', b'"length"', b'"tool_calls"', b'"tired"', b"7"]
_ENDS: Final = [
    b"",
    b',"usage":null',
    b',"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}',
    b',"usage":{"prompt_tokens":-1}',
    b',"logprobs":{"content":[]},"error":null',
]
_BREAKS: Final = [b"\n\n", b"\r\n\r\n", b"\n", b"\r\r", b"\n\n: ping\n\n"]


def stream(data: bytes) -> None:
    """Chunks that an upstream might send are forwarded, and told in the words of other APIs."""
    source = source_of(data)
    writer = Writer(source, {})
    parts = []
    for _ in range(1 + source.ConsumeIntInRange(0, 12)):
        parts += [b"data: ", _chunk(writer, source), writer.pick(_BREAKS)]
    parts.append(writer.pick([b"data: [DONE]\n\n", b"", b"data: {"]))
    whole = b"".join(parts)
    cut = source.ConsumeIntInRange(0, len(whole))
    batches = _forwarded([whole[:cut], whole[cut:]])
    call, asked = _ASKED
    _told(MessageStream("id", 3, ["x"]), batches)
    _told(ResponseStream(call, asked, "id"), batches)


def _chunk(writer: Writer, source: Any) -> bytes:
    if source.ConsumeIntInRange(0, 15) == 15:
        return bytes(writer.pick(ODD))
    delta, finish = writer.pick(_DELTAS), writer.pick(_FINISHES)
    if source.ConsumeIntInRange(0, 15) == 15:
        delta = writer.pick(ODD)
    choice = b'{"index":%d,"delta":%b,"finish_reason":%b}' % (
        source.ConsumeIntInRange(0, 2) % 2,
        delta,
        finish,
    )
    choices = writer.pick([choice, b"%b,%b" % (choice, choice), b""])
    head = b'"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    return b'{%b"choices":[%b]%b}' % (head, choices, writer.pick(_ENDS))


def _forwarded(pieces: list[bytes]) -> list[Batch]:
    forwarder = StreamForwarder(make_call(), choice_count=1)
    found: list[Batch | None] = []
    with contextlib.suppress(ProviderError):
        found += [None if forwarder.is_done else forwarder.feed(piece) for piece in pieces if piece]
        found.append(None if forwarder.is_done else forwarder.end())
    return [batch for batch in found if batch is not None]


def _told(shape: StreamShape, batches: list[Batch]) -> None:
    shape.begin(None)
    with failing(Reason.UPSTREAM_INVALID_RESPONSE):
        for batch in batches:
            if batch.HasField("finish"):
                shape.end(batch.sse, batch.finish)
            else:
                shape.feed(batch.sse)


_LINES: Final = [
    "Bearer sk-tp-",
    "bearer sk-infer-0123456789abcdef",
    "Basic x",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "0199c82c-c400-7000-8000-000000000001",
    "pdfs-2024-09-25, skills-2025-10-02",
    'multipart/form-data; boundary="x y"',
    "multipart/form-data; charset=utf-8; boundary=x; a=b",
]


def headers(data: bytes) -> None:
    """Every header that is looked into is read or refused; its bytes may be of any kind."""
    source = source_of(data)
    writer = Writer(source, {})

    def line() -> str:
        start: str = writer.pick(["", *_LINES])
        more: str = source.ConsumeBytes(64).decode("utf-8", "surrogateescape")
        return start[: len(start) - source.ConsumeIntInRange(0, 8)] + more

    given = {"Authorization": line()}
    if source.ConsumeBool():
        given["x-api-key"] = line()
    with contextlib.suppress(TurnpikeError):
        key = credential(given)
        token_digest(key)
        check_form(key, _SETTINGS)
        key.encode("ascii")
    parse_traceparent(line())
    boundary_of(line())
    with contextlib.suppress(TurnpikeError):
        read_chat(_CHAT, _RULES._replace(episode_id=line()))
    with contextlib.suppress(TurnpikeError):
        call = MessagesApi([line(), line()]).read(_CHAT, _RULES)
        ",".join(call.ignored).encode("ascii")


_HOSTS: Final = [
    "example.com",
    "127.0.0.1",
    "[::1]",
    "0x7f.1",
    "2130706433",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::a00:1]",
    "10.0.0.1.",
    "a.local",
    "8.8.8.8",
    "[2606:4700::1111]",
    "user@example.com",
]
_TAILS: Final = ["", "/", "/a?b#c", ":443/x", ":0", ":99999", "#@127.0.0.1", "?@10.0.0.1", "\\@x"]


def url(data: bytes) -> None:
    """An address that is taken leads to a public host, the one that another parser sees in it."""
    source = source_of(data)
    writer = Writer(source, {})
    start = writer.pick(["https://", "HTTPS://", "http://", "https:", ""])
    host = writer.pick(_HOSTS) if source.ConsumeBool() else ""
    middle = source.ConsumeUnicode(40)
    text = start + host + middle + writer.pick(_TAILS)
    try:
        found = read_public_url(text)
    except UrlError:
        return
    other = urlsplit(text)
    assert text.isascii()
    assert other.username is other.password is None
    assert (other.port or 443) == found.port
    assert found.path.startswith("/")
    try:
        address = ip_address(found.host)
    except ValueError:
        assert other.hostname == found.host
        assert "." in found.host
        assert not found.host.replace(".", "").isdigit()
    else:
        assert ip_address(str(other.hostname)) == address
        assert is_public(address)
        assert address.is_global
