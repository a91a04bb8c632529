"""Coverage-guided fuzzing of what reads bytes from strangers: `python -m tests.fuzz.targets NAME`.

What follows the name goes to libFuzzer, such as `-runs=20000`. A target fails by raising.
"""

import sys
from collections.abc import Callable
from typing import Final

import atheris

with atheris.instrument_imports(include=["kit", "gateway", "services"]):
    from gateway.call import ReadRules
    from gateway.credentials import check_form, credential
    from gateway.openai.dialect import DIALECTS
    from gateway.openai.envelope import read_chat
    from gateway.openai.fields import KNOWN
    from gateway.settings import GatewaySettings
    from kit.errors import TurnpikeError
    from kit.sse import EventTooLargeError, SseSplitter, events
    from services.router.providers.openai_forward import StreamForwarder
    from services.router.providers.port import ProviderError
    from tests.fakes.openai_calls import make_call

_EVENT_BYTES_MAX: Final = 4096
_SETTINGS: Final = GatewaySettings()
_DIALECTS: Final = list(DIALECTS.values())
_FIELDS: Final = sorted(name.encode() for name in KNOWN)
_VALUES: Final = [
    *(b"null true false 0 1 -1 2 1.0 0.5 1e999 -0 9223372036854775808".split()),
    *(b'"" "x" "auto" "cheapest" [] {} ["a"] [[]] [{}] {"type":"json_object"} {"a":[1]}'.split()),
    b'"0199c82c-c400-7000-8000-000000000001"',
    b'{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}',
    b'[{"type":"function","function":{"name":"f"}}]',
    b"[" * 2000 + b"]" * 2000,
]
_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"x"}]'


def sse(data: bytes) -> None:
    """Reads cut anywhere give the same events as one read."""
    source = atheris.FuzzedDataProvider(data)
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
    source = atheris.FuzzedDataProvider(data)
    cut = source.ConsumeIntInRange(0, 256)
    stream = source.ConsumeBytes(8192)
    forwarder = StreamForwarder(make_call(), choice_count=1)
    try:
        for piece in (stream[:cut], stream[cut:]):
            if piece and not forwarder.is_done:
                forwarder.feed(piece)
        forwarder.end()
    except ProviderError:
        return


def headers(data: bytes) -> None:
    """A credential is read or refused."""
    source = atheris.FuzzedDataProvider(data)
    given = {"Authorization": source.ConsumeUnicode(200), "x-api-key": source.ConsumeUnicode(200)}
    try:
        check_form(credential(given), _SETTINGS)
    except TurnpikeError:
        return


def body(data: bytes) -> None:
    """A chat body of known fields with odd values, or of anything, is read or refused."""
    source = atheris.FuzzedDataProvider(data)
    dialect = source.PickValueInList(_DIALECTS)
    strict = source.ConsumeBool()
    fields = [
        b'"%b":%b' % (source.PickValueInList(_FIELDS), source.PickValueInList(_VALUES))
        for _ in range(source.ConsumeIntInRange(0, 5))
    ]
    rest = source.ConsumeBytes(512)
    rules = ReadRules(dialect, 30_000, lambda: 1_760_000_000_000, lambda: "id", is_strict=strict)
    for raw in (rest, b",".join([_CHAT, *fields]) + rest + b"}"):
        try:
            read_chat(raw, rules)
        except TurnpikeError:
            continue


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "sse": sse,
    "forward": forward,
    "headers": headers,
    "body": body,
}

if __name__ == "__main__":
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()
