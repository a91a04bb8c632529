"""OpenAI to OpenAI: the request is edited by key, the answer is forwarded as bytes.

Pure. A stream's chunks begin with a constant head (everything before `"choices"`). It is learnt
from the first chunk and exchanged for Turnpike's own by one replace per read; only a chunk that
differs, ends a choice or carries usage is decoded.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from kit.sse import EventTooLargeError, SseSplitter, events
from services.router.providers.openai.choices import (
    Fields,
    complete_chunk,
    has_null_members,
    with_refusals,
    without_null_members,
)
from services.router.providers.openai.errors import JUNK, error_in_answer
from services.router.providers.openai.usage import Usage, estimate, read_usage
from services.router.providers.port import Batch, Call, Failure, ProviderError
from turnpike.router.v1 import router_pb2

EVENT_BYTES_MAX: Final = 8_388_608
"""The longest event of a stream, bytes."""

FINISH_REASONS: Final = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "function_call"}
)
_IDENTITY: Final = frozenset({"id", "object", "created", "model"})
_ANSWER_FIELDS: Final = ("system_fingerprint", "service_tier")
"""What the head of an upstream's chunks may say beside its identity."""

_NOT_FORWARDED: Final = _IDENTITY | {"choices", "usage", "error"}
_NULL: Final = msgspec.Raw(b"null")
_CHOICES: Final = b'"choices":[{'
_USAGE: Final = b'"usage"'
_NULL_USAGE: Final = b'"usage":null'
_ERROR: Final = b'"error"'
_FINISH: Final = b'"finish_reason"'
_NULL_FINISH: Final = b'"finish_reason":null'
_DELTA: Final = b'"delta":{'
_EMPTY_TEXT: Final = msgspec.Raw(b'""')
_NOTHING: Final = (_NULL, _EMPTY_TEXT, msgspec.Raw(b"[]"), msgspec.Raw(b"{}"))
_ERROR_OBJECT: Final = msgspec.Raw(b'"error"')
_EMPTY_DELTA: Final = re.compile(
    rb'"delta":\{(?:"role":"[a-z]*",?|"[a-z_]+":(?:null|""|\[\]),?)*\}'
)

_fields: Final = msgspec.json.Decoder(Fields)
_list: Final = msgspec.json.Decoder(list[Fields])
_text: Final = msgspec.json.Decoder(str)
_number: Final = msgspec.json.Decoder(int | float)


def invalid(message: str) -> ProviderError:
    """Return the failure of an answer that is not what was asked for."""
    return ProviderError(Failure.INVALID_RESPONSE, message, status=200)


class StreamForwarder:
    """Turns the reads of one streamed answer into batches.

    `is_done` tells that the last batch is out; `is_finished` that every choice has its
    finish_reason, so that only usage and `[DONE]` may still be missing; `has_content` that an
    event with content has been returned. A subclass says what a choice's content is elsewhere
    than in chat: `END` are its members when it has ended, `ALWAYS` those that none may lack.
    `has_logprobs` says that log probabilities were asked for.
    """

    END: ClassVar[Fields] = {"delta": msgspec.Raw(b"{}")}
    ALWAYS: ClassVar[Fields] = {"index": msgspec.Raw(b"0"), **END}
    __slots__ = (
        "_between",
        "_call",
        "_choice_count",
        "_content_count",
        "_exchanged",
        "_finish_chunks",
        "_finish_reasons",
        "_has_head_usage",
        "_head",
        "_is_head_known",
        "_mends",
        "_needle",
        "_new_usage",
        "_splitter",
        "_total_count",
        "_usage",
        "has_content",
        "is_done",
    )

    def __init__(self, call: Call, *, choice_count: int, has_logprobs: bool = False) -> None:
        self._call = call
        self._mends: tuple[Callable[[bytes], bytes], ...] = (with_refusals,) * has_logprobs
        self._choice_count = choice_count
        self._splitter = SseSplitter(event_bytes_max=EVENT_BYTES_MAX)
        self._needle = b""
        self._between = b""
        self._head = call.chunk_head + call.chunk_defaults
        self._is_head_known = False
        self._exchanged = b"data: " + self._head + _CHOICES
        self._has_head_usage = False
        self._finish_chunks: dict[int, bytes] = {}
        self._finish_reasons: dict[int, str] = {}
        self._usage: Usage | None = None
        self._new_usage = False
        self._content_count = 0
        self._total_count = 0
        self.has_content = False
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether every choice has ended."""
        return len(self._finish_chunks) >= self._choice_count

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or is none, or ends before its answer does.
        """
        try:
            region = self._splitter.feed(data)
        except EventTooLargeError:
            raise invalid("An event of the upstream's stream is too long.") from None
        if not region:
            return None
        if not region.isascii():
            _check_utf8(region)
        sse = self._exchange_heads(region)
        return self._batch(self._forward_each(region) if sse is None else sse)

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE` when a choice has no finish_reason.
        """
        rest = self._splitter.finish()
        sse = self._forward_each(rest) if _is_whole(rest) else b""
        self.is_done = True
        batch = self._batch(sse)
        if batch is None:
            raise _incomplete()
        return batch

    def _batch(self, sse: bytes) -> Batch | None:
        if not sse and not self.is_done and not self._new_usage:
            return None
        count = self._content_count
        self._content_count = 0
        self._total_count += count
        self.has_content = self._total_count > 0
        batch = Batch(sse=sse, content_event_count=count)
        if self._new_usage and self._usage is not None:
            self._new_usage = False
            batch.running_usage.CopyFrom(self._usage.tokens)
        if self.is_done:
            batch.finish.CopyFrom(self._finish())
        return batch

    def _finish(self) -> router_pb2.Finish:
        if not self.is_finished:
            raise _incomplete()
        first = min(self._finish_chunks)
        usage = self._usage
        return router_pb2.Finish(
            finish_chunks=[chunk for _, chunk in sorted(self._finish_chunks.items())],
            chunk_head=self._head,
            usage_json=usage.json if usage is not None else b"",
            usage=usage.tokens if usage is not None else estimate(self._total_count),
            finish_reason=self._finish_reasons[first],
        )

    # The fast path: no event is decoded.

    def _exchange_heads(self, region: bytes) -> bytes | None:
        """Return the events under Turnpike's head, or None when one of them must be looked at."""
        needle = self._needle
        if not needle or not region.startswith(needle) or not region.endswith(b"}\n\n"):
            return None
        line_count = region.count(b"\n")
        if line_count != 2 and region.count(self._between) * 2 != line_count - 2:
            return None
        finish_count = region.count(_FINISH)
        if (
            finish_count != region.count(_NULL_FINISH)
            or finish_count * 2 < line_count
            # Not `in`: for bytes it fails as an integer first, at twice the cost.
            or region.find(_ERROR) >= 0
        ):
            return None
        usage_count = region.count(_USAGE)
        if usage_count:
            if usage_count != region.count(_NULL_USAGE):
                return None
            if not self._has_head_usage:
                region = region.replace(b"," + _NULL_USAGE, b"")
            elif usage_count * 2 != line_count:
                return None
        for mend in self._mends:
            region = mend(region)
        self._content_count += region.count(_DELTA) - len(_EMPTY_DELTA.findall(region))
        return region.replace(needle, self._exchanged)

    def _learn(self, part: bytes, chunk: Fields, choices: list[Fields]) -> None:
        """Take the constant head of a chunk, if the rest of the chunk may be passed on."""
        self._needle = b""
        if not all(self.ALWAYS.keys() <= choice.keys() for choice in choices):
            return
        if without_null_members not in self._mends and has_null_members(part):
            self._mends += (without_null_members,)
        at = part.find(_CHOICES)
        names = list(chunk)
        before = names[: names.index("choices")]
        if at < 0 or not part.startswith(b"data:") or b"\n" in part:
            return
        if not _IDENTITY.isdisjoint(names[len(before) :]):
            return
        has_usage = "usage" in before
        if has_usage and chunk["usage"] != _NULL:
            return
        try:
            alone = _fields.decode(part[5:at] + b'"choices":[]}')
        except JUNK:
            return
        if list(alone) != [*before, "choices"]:
            return
        self._needle = part[: at + len(_CHOICES)]
        self._between = b"}\n\n" + self._needle
        self._has_head_usage = has_usage

    # The slow path: one event at a time, and only an odd one is decoded.

    def _forward_each(self, region: bytes) -> bytes:
        forwarded: list[bytes] = []
        for padded in region.split(b"\n\n"):
            part = padded.strip(b"\n")
            if not part:
                continue
            event = self._exchange_heads(part + b"\n\n")
            if event is None:
                event = self._forward_odd(part)
            forwarded.append(event)
            if self.is_done:
                break
        return b"".join(forwarded)

    def _forward_odd(self, part: bytes) -> bytes:
        forwarded = b""
        for event in events(part):
            data = event.data.strip()
            if data == b"[DONE]":
                self.is_done = True
            elif event.name == "error":
                raise error_in_answer(data)
            elif data:
                forwarded += self._forward_chunk(part, data)
        return forwarded

    def _forward_chunk(self, part: bytes, data: bytes) -> bytes:
        try:
            if b"\n" in data:
                data = msgspec.json.format(data, indent=-1)
            chunk = _fields.decode(data)
            raw_choices = chunk.get("choices", msgspec.Raw(b"[]"))
            choices = _list.decode(raw_choices) if raw_choices != _NULL else []
        except JUNK:
            raise _no_chunk() from None
        if chunk.get("error", _NULL) != _NULL or chunk.get("object") == _ERROR_OBJECT:
            raise error_in_answer(data)
        self._take_usage(chunk)
        if not choices:
            return b""
        if not self._is_head_known:
            self._take_head(chunk)
        is_known = self._needle and part.startswith(self._needle)
        if not is_known and not any(_has_finish(choice) for choice in choices):
            self._learn(part, chunk, choices)
            forwarded = self._exchange_heads(part + b"\n\n")
            if forwarded is not None:
                return forwarded
        return self._rebuild(chunk, choices)

    def _take_head(self, chunk: Fields) -> None:
        """Settle what stands before the choices of this stream's chunks, by its first one."""
        self._is_head_known = True
        names = list(chunk)
        before = names[: names.index("choices")]
        defaults = self._call.chunk_defaults
        members = _fields.decode(b"{%b}" % defaults[:-1]) if defaults else {}
        head = {name: raw for name, raw in members.items() if name not in names}
        for name in _ANSWER_FIELDS:
            if name in before and chunk[name] != _NULL:
                head[name] = chunk[name]
        self._head = self._call.chunk_head + b"".join(
            b"%b:%b," % (msgspec.json.encode(name), bytes(raw)) for name, raw in head.items()
        )
        self._exchanged = b"data: " + self._head + _CHOICES

    def _take_usage(self, chunk: Fields) -> None:
        raw = chunk.get("usage")
        if raw is None or raw == _NULL:
            return
        usage = read_usage(bytes(raw))
        if usage is not None:
            self._usage = usage
            self._new_usage = True

    def _rebuild(self, chunk: Fields, choices: list[Fields]) -> bytes:
        """Take the ends of choices out of a chunk and return the event that is left, if any."""
        names = list(chunk)
        tail = b"".join(
            b"," + msgspec.json.encode(name) + b":" + bytes(chunk[name])
            for name in names[names.index("choices") :]
            if name not in _NOT_FORWARDED
        )
        kept: list[Fields] = []
        for choice in choices:
            has_finish = _has_finish(choice)
            is_kept, has_content = self.weigh(choice)
            self._content_count += has_content
            try:
                complete_chunk(choice, self.ALWAYS)
            except JUNK:
                raise _no_chunk() from None
            if has_finish:
                self._take_finish(choice, tail, has_content=is_kept)
            if is_kept or not has_finish:
                kept.append({**choice, "finish_reason": _NULL})
        if not kept:
            return b""
        return b'data: %b"choices":%b%b}\n\n' % (self._head, msgspec.json.encode(kept), tail)

    def _take_finish(self, choice: Fields, tail: bytes, *, has_content: bool) -> None:
        try:
            reason = _text.decode(choice["finish_reason"])
            index = int(_number.decode(choice.get("index", b"0")))
        except JUNK:
            reason, index = "", 0
        if reason not in FINISH_REASONS:
            raise invalid("The upstream ended its answer for a reason that is not known.")
        if index in self._finish_chunks:
            return
        end = {**choice, **self.END}
        if has_content and "logprobs" in end:
            end["logprobs"] = _NULL
        encoded = msgspec.json.encode([end])
        self._finish_chunks[index] = b'%b"choices":%b%b}' % (self._head, encoded, tail)
        self._finish_reasons[index] = reason

    def weigh(self, choice: Fields) -> tuple[bool, bool]:
        """Return whether a choice says anything, and whether that is more than a role.

        Raises:
            ProviderError: It is no choice.
        """
        try:
            delta = _fields.decode(choice.get("delta", b"{}"))
        except JUNK:
            raise _no_chunk() from None
        said = {name for name, value in delta.items() if value not in _NOTHING}
        return bool(said), bool(said - {"role"})


def _check_utf8(region: bytes) -> None:
    try:
        region.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("The upstream's stream is not UTF-8.") from None


def _has_finish(choice: Fields) -> bool:
    reason = choice.get("finish_reason", _NULL)
    return reason not in (_NULL, _EMPTY_TEXT)


def _is_whole(rest: bytes) -> bool:
    """Whether what the end of the stream left is an event that only lacks its blank line."""
    try:
        for event in events(rest):
            if event.data.strip() != b"[DONE]":
                _fields.decode(event.data)
    except JUNK:
        return False
    return True


def _no_chunk() -> ProviderError:
    return invalid("The upstream's stream holds something that is no chunk.")


def _incomplete() -> ProviderError:
    return ProviderError(Failure.INCOMPLETE, "The upstream ended its answer too early.", status=200)
