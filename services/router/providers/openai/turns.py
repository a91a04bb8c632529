"""What vendors that speak OpenAI want back with the next turn, gathered from what they said; pure.

Chunks are looked into only for a vendor that wants something, and only where tools may be called.
Source: DeepSeek, thinking mode with tool calls; OpenRouter, preserving reasoning blocks (read
2026-11).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.profiles import Profile
from services.router.providers.port import Batch, Body, Call, Keep
from services.router.providers.turn_state import DETAILS, TurnState, WantsBack

GATHERED_CHARS_MAX: Final = 512 * 1024
"""Longest reasoning that is gathered; an answer with more is not kept."""

_FORMATS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic-claude-v1",
    "google": "google-gemini-v1",
    "openai": "openai-responses-v1",
    "x-ai": "xai-responses-v1",
}
"""Whose details are of which format, by the publishers in OpenRouter's names of models."""

_SIGNED: Final = frozenset(_FORMATS.values())
_GROWING: Final = frozenset({"text", "summary", "data"})
_NULL: Final = msgspec.Raw(b"null")
_encode: Final = msgspec.json.encode


class _Call(msgspec.Struct):
    index: int = -1
    id: str | None = None
    extra_content: msgspec.Raw = _NULL


class _Said(msgspec.Struct):
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode: Final = msgspec.json.Decoder(_Answer).decode


def wants_back(profile: Profile, call: Call, body: Body, *, reasons: bool) -> WantsBack | None:
    """Return what a deployment wants back of earlier answers; `reasons` as its owner says."""
    rules = profile.thinking
    members = rules.wants_back if reasons or rules.always_wants_back else frozenset[str]()
    if not members or call.operation or "messages" not in body:
        return None
    if DETAILS not in members:
        return WantsBack(members)
    own = _FORMATS.get(call.upstream_model.partition("/")[0], "")
    return WantsBack(members, foreign=_SIGNED - {own})


class _Growing:
    """What one choice has said so far."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.details: dict[int, dict[str, Any]] = {}
        self.calls: dict[int, str] = {}
        self.extras: dict[str, msgspec.Raw] = {}

    def add(self, said: _Said) -> int:
        """Take a piece and return how many characters it has."""
        size = 0
        if said.reasoning_content:
            self.reasoning.append(said.reasoning_content)
            size += len(said.reasoning_content)
        for detail in said.reasoning_details or ():
            size += self._add_detail(detail)
        for place, call in enumerate(said.tool_calls or ()):
            index = call.index if call.index >= 0 else place
            call_id = self.calls.setdefault(index, call.id or "")
            if call.extra_content != _NULL:
                self.extras[call_id] = call.extra_content
        return size

    def state(self) -> TurnState:
        """Return all of it."""
        return TurnState(
            [msgspec.Raw(_encode(detail)) for _, detail in sorted(self.details.items())],
            "".join(self.reasoning),
            self.extras,
        )

    def _add_detail(self, detail: dict[str, Any]) -> int:
        index = detail.get("index")
        if not isinstance(index, int):
            index = len(self.details)
        known = self.details.setdefault(index, {})
        size = 0
        for name, value in detail.items():
            if name in _GROWING and isinstance(value, str):
                known[name] = (known.get(name) or "") + value
                size += len(value)
            elif value is not None or name not in known:
                known[name] = value
        return size


class TurnGatherer:
    """Gathers one answer's state from its batches, and hands it to `keep` at the end."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._choices: dict[int, _Growing] = {}
        self._size = 0
        self._is_given_up = False

    def take(self, batch: Batch) -> None:
        """Take a batch as it goes to the caller."""
        if self._is_given_up:
            return
        try:
            for data in _payloads(batch):
                self._take(data)
        except JUNK:
            self._give_up()
        if self._size > GATHERED_CHARS_MAX:
            self._give_up()
        if batch.HasField("finish"):
            self._hand_back()

    def _take(self, data: bytes) -> None:
        for choice in _decode(data).choices:
            said = choice.message or choice.delta
            if said is not None:
                self._size += self._choices.setdefault(choice.index, _Growing()).add(said)

    def _hand_back(self) -> None:
        for grown in self._choices.values():
            state = grown.state()
            if grown.calls and state:
                self._keep(grown.calls[min(grown.calls)], state)

    def _give_up(self) -> None:
        self._is_given_up = True
        self._choices.clear()


def _payloads(batch: Batch) -> Iterator[bytes]:
    if batch.completion:
        yield batch.completion
    for event in batch.sse.split(b"\n\n"):
        if data := event.removeprefix(b"data:").strip():
            yield data
    yield from batch.finish.finish_chunks
