"""An answer of a vendor that speaks OpenAI, brought to OpenAI's own form; pure.

A stream goes by the fast path of `forward` as long as no read holds one of the profile's
marks; what does is taken apart, choice by choice. Source: see `openai_profiles`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

from services.router.providers.openai.choices import Fields
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import StreamForwarder, invalid
from services.router.providers.openai.plain import read_completion, read_object
from services.router.providers.openai.profiles import AnswerRules
from services.router.providers.openai.request import choice_count
from services.router.providers.openai.texts import (
    TextForwarder,
    read_text_completion,
    text_choice_count,
)
from services.router.providers.openai.think import ThinkSplitter
from services.router.providers.openai.usage import openais_own, read_usage
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError

BROKEN: Final = frozenset({"error", "insufficient_system_resource", "cancelled", "timeout"})
"""Finish reasons of an answer that did not come to its end."""

_NULL: Final = msgspec.Raw(b"null")
_ANSWER: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"}
    | {"error"}
)
_CHOICE: Final = ("index", "delta", "message", "logprobs", "finish_reason")
_SAID: Final = (
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "annotations",
    "reasoning_content",
    "reasoning_details",
)
_NO_THOUGHTS: Final = (_NULL, msgspec.Raw(b"[]"), msgspec.Raw(b'""'))

_fields: Final = msgspec.json.Decoder(Fields).decode
_list: Final = msgspec.json.Decoder(list[Fields]).decode
_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.encode


class Speller:
    """Respells the choices of one answer; keeps what is held back of each."""

    def __init__(self, rules: AnswerRules) -> None:
        self._rules = rules
        self._splitters: dict[bytes, ThinkSplitter] = {}

    def chat(self, choice: Fields) -> Fields:
        """Return a choice of a chat, whole or in a chunk, as OpenAI has it.

        Raises:
            msgspec.DecodeError: It is none.
            ProviderError: `INCOMPLETE`: the vendor broke its answer off.
        """
        found: Fields = {name: choice[name] for name in _CHOICE if name in choice}
        self._exchange_reason(found)
        for place in ("delta", "message"):
            if found.get(place, _NULL) != _NULL:
                said = _said(_fields(found[place]), is_whole=place == "message")
                if self._rules.think_tags:
                    self._split(found, said)
                found[place] = msgspec.Raw(_encode(said))
        return found

    def text(self, choice: Fields) -> Fields:
        """Return a choice of a text completion, which some vendors answer as a chat.

        Raises:
            As `chat`.
        """
        kept = ("index", "logprobs", "text")
        found: Fields = {name: choice[name] for name in kept if name in choice}
        if "finish_reason" in choice:
            found["finish_reason"] = choice["finish_reason"]
            self._exchange_reason(found)
        for place in ("delta", "message"):
            if "text" not in found and choice.get(place, _NULL) != _NULL:
                content = _said(_fields(choice[place]), is_whole=True).get("content", _NULL)
                found["text"] = msgspec.Raw(b'""') if content == _NULL else content
        return found

    def _exchange_reason(self, choice: Fields) -> None:
        raw = choice.get("finish_reason", _NULL)
        if raw == _NULL:
            return
        reason = _text(raw)
        if reason in BROKEN:
            raise ProviderError(
                Failure.INCOMPLETE, "The upstream broke off its answer.", status=200
            )
        if reason in self._rules.finish_reasons:
            choice["finish_reason"] = msgspec.Raw(_encode(self._rules.finish_reasons[reason]))

    def _split(self, choice: Fields, said: Fields) -> None:
        index = bytes(choice.get("index", b"0"))
        splitter = self._splitters.setdefault(index, ThinkSplitter())
        content = said.get("content", _NULL)
        thought, text = splitter.feed("" if content == _NULL else _text(content))
        if choice.get("finish_reason", _NULL) != _NULL or "message" in choice:
            last = splitter.end()
            thought, text = thought + last.thought, text + last.text
        if content != _NULL or text:
            said["content"] = msgspec.Raw(_encode(text))
        if thought:
            said["reasoning_content"] = msgspec.Raw(_encode(thought))


class _Vendors:
    """What forwarders of vendors do otherwise than OpenAI's."""

    __slots__ = ()
    _rules: AnswerRules
    _respelled: Callable[[Fields], Fields]

    def _exchange_heads(self, region: bytes) -> bytes | None:
        rules = self._rules
        if rules.think_tags or any(region.find(mark) >= 0 for mark in rules.marks):
            return None
        return super()._exchange_heads(region)  # type: ignore[misc, no-any-return] # of a mixin

    def _rebuild(self, chunk: Fields, choices: list[Fields]) -> bytes:
        known = {name: raw for name, raw in chunk.items() if name in _ANSWER}
        try:
            respelled = [self._respelled(choice) for choice in choices]
        except JUNK:
            raise invalid("The upstream's stream holds something that is no chunk.") from None
        return super()._rebuild(known, respelled)  # type: ignore[misc, no-any-return] # of a mixin

    def _take_usage(self, chunk: Fields) -> None:
        if self._rules.has_own_usage and chunk.get("usage", _NULL) != _NULL:
            usage = read_usage(bytes(chunk["usage"]))
            chunk = {"usage": msgspec.Raw(openais_own(usage).json)} if usage is not None else {}
        super()._take_usage(chunk)  # type: ignore[misc] # of a mixin


class VendorForwarder(_Vendors, StreamForwarder):
    """Turns the reads of one streamed chat into batches."""

    __slots__ = ("_respelled", "_rules")

    def __init__(self, call: Call, body: Body, rules: AnswerRules) -> None:
        super().__init__(call, choice_count=choice_count(body), has_logprobs="logprobs" in body)
        self._rules = rules
        self._respelled = Speller(rules).chat


class VendorTextForwarder(_Vendors, TextForwarder):
    """Turns the reads of one streamed text completion into batches."""

    END: ClassVar = TextForwarder.END
    __slots__ = ("_respelled", "_rules")

    def __init__(self, call: Call, body: Body, rules: AnswerRules) -> None:
        super().__init__(call, choice_count=text_choice_count(body))
        self._rules = rules
        self._respelled = Speller(rules).text


def read_vendor_chat(call: Call, body: Body, answer: bytes, rules: AnswerRules) -> Batch:
    """Return the only batch of a whole chat.

    Raises:
        ProviderError: As `read_completion`; `INCOMPLETE`: the vendor broke its answer off.
    """
    whole = _respelled(answer, Speller(rules).chat, rules)
    return read_completion(call, whole, choice_count=choice_count(body))


def read_vendor_text(call: Call, body: Body, answer: bytes, rules: AnswerRules) -> Batch:
    """Return the only batch of a whole text completion.

    Raises:
        ProviderError: As `read_vendor_chat`.
    """
    return read_text_completion(call, body, _respelled(answer, Speller(rules).text, rules))


def _respelled(answer: bytes, spell: Callable[[Fields], Fields], rules: AnswerRules) -> bytes:
    found: dict[str, Any] = {n: raw for n, raw in read_object(answer).items() if n in _ANSWER}
    try:
        found["choices"] = [spell(choice) for choice in _list(found.get("choices", _NULL))]
    except JUNK:
        raise invalid("The upstream's answer has no valid choices.") from None
    if rules.has_own_usage and found.get("usage", _NULL) != _NULL:
        usage = read_usage(bytes(found["usage"]))
        found["usage"] = None if usage is None else msgspec.Raw(openais_own(usage).json)
    return _encode(found)


def _said(said: Fields, *, is_whole: bool) -> Fields:
    """Return a message or a delta with OpenAI's members, and its thoughts."""
    found: Fields = {name: said[name] for name in _SAID if name in said}
    thoughts = found.pop("reasoning_content", _NULL)
    if thoughts in _NO_THOUGHTS:
        thoughts = said.get("reasoning", _NULL)
    if bytes(found.get("content", _NULL)).startswith(b"["):
        text, thought = _of_parts(found["content"])
        found["content"] = msgspec.Raw(_encode(text))
        thoughts = msgspec.Raw(_encode(thought)) if thought else thoughts
    if thoughts not in _NO_THOUGHTS:
        found["reasoning_content"] = thoughts
    if found.get("reasoning_details", _NULL) in _NO_THOUGHTS:
        found.pop("reasoning_details", None)
    if found.get("tool_calls", _NULL) != _NULL:
        found["tool_calls"] = _calls(found["tool_calls"], is_whole=is_whole)
    return found


def _of_parts(raw: msgspec.Raw) -> tuple[str, str]:
    """Return the text and the thoughts of content in parts; references have neither."""
    text, thought = "", ""
    for part in _list(raw):
        if bytes(part.get("type", b"")) == b'"thinking"':
            thoughts = _list(part.get("thinking", b"[]"))
            thought += "".join(_text(one["text"]) for one in thoughts if "text" in one)
        elif "text" in part:
            text += _text(part["text"])
    return text, thought


def _calls(raw: msgspec.Raw, *, is_whole: bool) -> msgspec.Raw:
    """Return tool calls with arguments that are text; an index is a delta's only."""
    calls = _list(raw)
    for place, call in enumerate(calls):
        if is_whole:
            call.pop("index", None)
        else:
            call.setdefault("index", msgspec.Raw(b"%d" % place))
        if bytes(call.get("id", b"")) == b'"null"':
            del call["id"]
        if "function" in call:
            function = _fields(call["function"])
            if bytes(function.get("arguments", b"")).startswith(b"{"):
                function["arguments"] = msgspec.Raw(_encode(bytes(function["arguments"]).decode()))
                call["function"] = msgspec.Raw(_encode(function))
    return msgspec.Raw(_encode(calls))
