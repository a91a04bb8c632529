"""Writes an answer as OpenAI's chunks or completion, for upstreams that do not speak OpenAI; pure.

One writer serves one answer with one choice. What it is told in the order in which it comes is
what the caller reads, in a stream and in a whole answer alike.
"""

from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.openai.forward import FINISH_REASONS, invalid
from services.router.providers.port import Batch, Call, Failure, Keep, ProviderError
from services.router.providers.turn_state import REASONING, TurnState
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

ANSWER_CHARS_MAX: Final = 32 * 1024 * 1024
"""Longest whole answer that is gathered in memory."""

TOOL_CALLS_MAX: Final = 128
"""Most tool calls of one answer."""

TOKENS_MAX: Final = 2**31
"""A count above this is no count: the answer is refused."""

_encode: Final = msgspec.json.encode
_START: Final = b'"choices":[{"index":0,"delta":{'
_END: Final = b'},"logprobs":null,"finish_reason":null}]}\n\n'
_BYTES_PER_TOKEN: Final = 4


class Counts(NamedTuple):
    """Tokens by class, in OpenAI's meaning.

    The prompt includes what was read from or written to a cache, the completion includes reasoning.
    """

    prompt: int
    completion: int
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0

    def usage(self, *, is_exact: bool = True) -> usage_pb2.TokenUsage:
        """Return them as a message.

        Raises:
            ProviderError: `INVALID_RESPONSE`: one is impossible.
        """
        if not all(0 <= count <= TOKENS_MAX for count in self):
            raise invalid("The upstream reported an impossible usage.")
        return usage_pb2.TokenUsage(
            prompt_token_count=self.prompt,
            completion_token_count=self.completion,
            cached_prompt_token_count=min(self.cached, self.prompt),
            reasoning_token_count=min(self.reasoning, self.completion),
            source=usage_pb2.USAGE_SOURCE_UPSTREAM
            if is_exact
            else usage_pb2.USAGE_SOURCE_ESTIMATED,
        )

    def json(self) -> bytes:
        """Return OpenAI's usage object."""
        found: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        if self.cached or self.cache_written:
            found["prompt_tokens_details"] = {"cached_tokens": self.cached}
            if self.cache_written:
                found["prompt_tokens_details"]["cache_creation_tokens"] = self.cache_written
        if self.reasoning:
            found["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return _encode(found)


class _ToolCall(NamedTuple):
    id: str
    name: str
    pieces: list[str]
    extra: msgspec.Raw | None


class ChunkWriter:
    """One answer while it grows.

    `has_content` tells that a batch with content was made.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._head = call.chunk_head + call.chunk_defaults
        self._start = b"data: " + self._head + _START
        self._events: list[bytes] = []
        self._content_count = 0
        self._total_count = 0
        self._running: usage_pb2.TokenUsage | None = None
        self._prompt: Counts | None = None
        self._has_role = False
        self._size = 0
        self._said: dict[str, list[str]] = {}
        self._details: list[dict[str, object]] = []
        self._calls: list[_ToolCall] = []
        self.has_content = False

    @property
    def tool_call_count(self) -> int:
        """How many tools were called so far."""
        return len(self._calls)

    def text(self, text: str) -> None:
        """Say a piece of the answer's text."""
        self._say("content", text)

    def reasoning(self, text: str) -> None:
        """Say a piece of what the model thinks."""
        self._say(REASONING, text)
        if text and self._call.keep is not None and self._call.is_streaming:
            self._said.setdefault(REASONING, []).append(text)

    def reasoning_detail(self, detail: dict[str, object]) -> None:
        """Say what has to come back with the next turn, an entry of `reasoning_details`.

        It gets an index: clients that gather a stream's deltas tell list entries apart by it.
        """
        detail = {**detail, "index": len(self._details)}
        self._details.append(detail)
        if self._call.is_streaming:
            self._event(b'"reasoning_details":%b' % _encode([detail]), is_content=False)

    def tool_call(self, call_id: str, name: str, *, extra: object = None) -> int:
        """Begin a tool call and return its index; `extra` is its `extra_content`, if any.

        Raises:
            ProviderError: `INVALID_RESPONSE`: it has no name, or there are too many.
        """
        index = len(self._calls)
        if not name or index >= TOOL_CALLS_MAX:
            raise invalid("The upstream's tool call makes no sense.")
        raw = None if extra is None else msgspec.Raw(_encode(extra))
        self._calls.append(_ToolCall(call_id, name, [], raw))
        if self._call.is_streaming:
            more = b"" if raw is None else b',"extra_content":%b' % raw
            self._event(
                b'"tool_calls":[{"index":%d,"id":%b,"type":"function",'
                b'"function":{"name":%b,"arguments":""}%b}]'
                % (index, _encode(call_id), _encode(name), more)
            )
        return index

    def tool_arguments(self, index: int, piece: str) -> None:
        """Say a piece of the JSON that the tool `index` is called with."""
        if not piece:
            return
        self._grow(piece)
        if self._call.is_streaming:
            self._event(
                b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (index, _encode(piece))
            )
        else:
            self._calls[index].pieces.append(piece)

    def prompt_counted(self, counts: Counts) -> None:
        """Take the prompt's count before the answer's is known; that is estimated by its pieces."""
        counts.usage()
        self._prompt = counts

    def counted(self, counts: Counts) -> None:
        """Take exact running totals that cover everything said so far."""
        self._running = counts.usage()

    def batch(self) -> Batch | None:
        """Return what has gathered, None for nothing or in a whole answer."""
        if not self._events:
            return None
        batch = Batch(sse=b"".join(self._events), content_event_count=self._content_count)
        self._events.clear()
        self._total_count += self._content_count
        self._content_count = 0
        self.has_content |= self._total_count > 0
        running = self._running_usage()
        if running is not None:
            batch.running_usage.CopyFrom(running)
        return batch

    def end(self, finish_reason: str, counts: Counts | None) -> Batch:
        """Return the last batch; `counts` is what was used, None if nobody counted.

        Raises:
            ProviderError: `INVALID_RESPONSE`: the reason is not one of OpenAI's, or a count is
                impossible.
        """
        if finish_reason not in FINISH_REASONS:
            raise invalid("The upstream ended its answer for a reason that is not known.")
        if counts is not None:
            usage, usage_json = counts.usage(), counts.json()
        else:
            usage, usage_json = self._estimate(), b""
        if self._calls and self._call.keep is not None:
            self._hand_back(self._call.keep)
        finish = router_pb2.Finish(
            chunk_head=self._head, usage_json=usage_json, usage=usage, finish_reason=finish_reason
        )
        if not self._call.is_streaming:
            completion = self._completion(finish_reason, usage_json)
            return Batch(completion=completion, finish=finish)
        if not self._has_role:
            self._role()
        self._running = usage if counts is not None else None
        batch = self.batch() or Batch()
        finish.finish_chunks.append(
            self._head
            + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]}'
            % _encode(finish_reason)
        )
        batch.finish.CopyFrom(finish)
        return batch

    def _hand_back(self, keep: Keep) -> None:
        """Hand out what the model wants back with the next turn."""
        state = TurnState(
            details=[msgspec.Raw(_encode(detail)) for detail in self._details],
            reasoning="".join(self._said.get(REASONING, ())),
            extras={call.id: call.extra for call in self._calls if call.extra is not None},
        )
        if state:
            keep(self._calls[0].id, state)

    def _say(self, member: str, text: str) -> None:
        if not text:
            return
        self._grow(text)
        if self._call.is_streaming:
            self._event(b'"%b":%b' % (member.encode(), _encode(text)))
        else:
            self._said.setdefault(member, []).append(text)

    def _grow(self, text: str) -> None:
        self._size += len(text)
        if self._size > ANSWER_CHARS_MAX:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The model's answer is longer than any answer may be."
            )

    def _event(self, delta: bytes, *, is_content: bool = True) -> None:
        if not self._has_role:
            self._role()
        self._events.append(self._start + delta + _END)
        self._content_count += is_content

    def _role(self) -> None:
        self._has_role = True
        self._events.append(self._start + b'"role":"assistant","content":""' + _END)

    def _running_usage(self) -> usage_pb2.TokenUsage | None:
        if self._running is not None:
            return self._running
        if self._prompt is None:
            return None
        return self._prompt._replace(completion=self._total_count, reasoning=0).usage(
            is_exact=False
        )

    def _estimate(self) -> usage_pb2.TokenUsage:
        count = self._total_count + self._content_count or -(-self._size // _BYTES_PER_TOKEN)
        return usage_pb2.TokenUsage(
            completion_token_count=count, source=usage_pb2.USAGE_SOURCE_ESTIMATED
        )

    def _completion(self, finish_reason: str, usage_json: bytes) -> bytes:
        said = {name: "".join(pieces) for name, pieces in self._said.items()}
        text = said.pop("content", None)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text is not None or self._calls else "",
            "refusal": None,
            **said,
        }
        if self._details:
            message["reasoning_details"] = self._details
        if self._calls:
            message["tool_calls"] = [_whole_call(call) for call in self._calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        answer = {
            "id": self._call.answer_id,
            "object": "chat.completion",
            "created": self._call.create_unix_s,
            "model": self._call.model_id,
            "choices": [choice],
        }
        if usage_json:
            answer["usage"] = msgspec.Raw(usage_json)
        return _encode(answer)


def _whole_call(call: _ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": "".join(call.pieces)}
    whole: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.extra is not None:
        whole["extra_content"] = call.extra
    return whole
