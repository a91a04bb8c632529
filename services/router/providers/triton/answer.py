"""Folds what a Triton model sends into the batches of one answer; pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from services.router.providers.openai.usage import estimate
from services.router.providers.port import Batch, Call, Failure, ProviderError
from services.router.providers.triton.contract import Part
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

ANSWER_CHARS_MAX: Final = 32 * 1024 * 1024
"""Longest plain answer that is gathered in memory."""

CHARS_PER_TOKEN: Final = 4
"""How long a token is taken to be, where nobody counts them."""

_RUNNING: Final = b'"logprobs":null,"finish_reason":null}]}\n\n'
_LOGPROBS: Final = b'"logprobs":{"content":[%b],"refusal":null},"finish_reason":null}]}\n\n'
_ENDS: Final = frozenset({"stop", "length"})


class _Form(NamedTuple):
    """How one kind of answer is spelled, from `choices` on; empty where it has no such event."""

    object_name: str
    role: bytes
    content: bytes
    content_end: bytes
    logprobs_end: bytes
    end: bytes


_CHAT: Final = _Form(
    object_name="chat.completion",
    role=b'"choices":[{"index":%d,"delta":{"role":"assistant","content":""},' + _RUNNING,
    content=b'"choices":[{"index":%d,"delta":{"content":',
    content_end=b"}," + _RUNNING,
    logprobs_end=b"}," + _LOGPROBS,
    end=b'"choices":[{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]}',
)
_TEXT: Final = _Form(
    object_name="text_completion",
    role=b"",
    content=b'"choices":[{"index":%d,"text":',
    content_end=b"," + _RUNNING,
    logprobs_end=b"," + _LOGPROBS,
    end=b'"choices":[{"index":%d,"text":"","logprobs":null,"finish_reason":"%b"}]}',
)


class _Choice:
    """One choice: what was not handed over yet, and why it ended."""

    __slots__ = ("finish_reason", "gathered", "logprobs", "role", "start")

    def __init__(self, index: int, form: _Form, head: bytes, echo: str) -> None:
        self.gathered: list[str] = [echo] if echo else []
        self.logprobs: list[bytes] = []
        self.finish_reason = ""
        self.role = b"data: " + head + form.role % index if form.role else b""
        self.start = b"data: " + head + form.content % index

    def event(self, form: _Form) -> bytes:
        """Return what was not handed over as one event."""
        gathered = self.gathered
        text = gathered[0] if len(gathered) == 1 else "".join(gathered)
        self.gathered = []
        end = form.content_end
        if self.logprobs:
            end = form.logprobs_end % b",".join(self.logprobs)
            self.logprobs = []
        return self.start + msgspec.json.encode(text) + end


class Answer:
    """One answer while it grows: text that was not handed over yet, and running totals.

    They are exact where the model counts; else each piece of a stream counts as a token.
    """

    __slots__ = (
        "_call",
        "_chars",
        "_choices",
        "_completion_tokens",
        "_form",
        "_has_broken_off",
        "_has_started",
        "_has_text",
        "_head",
        "_is_counted",
        "_new_pieces",
        "_open_count",
        "_pieces",
        "_prompt_tokens",
        "_size",
        "_template",
    )

    def __init__(
        self, call: Call, *, echo: str = "", choice_count: int = 1, is_counted: bool = True
    ) -> None:
        """Begin an answer, whose choices say `echo` before anything else."""
        self._call = call
        self._form = _TEXT if call.operation else _CHAT
        self._head = call.chunk_head + call.chunk_defaults
        self._choices = [
            _Choice(index, self._form, self._head, echo) for index in range(choice_count)
        ]
        self._size = len(echo) * choice_count
        self._is_counted = is_counted
        self._prompt_tokens = -1
        self._completion_tokens = 0
        self._pieces = 0
        self._chars = 0
        self._new_pieces = 0
        self._has_started = False
        self._has_text = bool(echo)
        self._has_broken_off = False
        self._open_count = choice_count
        # Copied for each batch: cheaper than building the nested message anew.
        self._template = Batch()

    @property
    def is_finished(self) -> bool:
        """Whether the model said of every choice why it ended."""
        return self._open_count == 0

    @property
    def has_started(self) -> bool:
        """Whether a batch with content was made."""
        return self._has_started

    def add(self, parts: Sequence[Part]) -> Batch | None:
        """Take what came and return the batch to hand over; None when there is no text to show.

        Text that came together becomes one event. Text that came with a good end waits for `end`.

        Raises:
            ProviderError: INVALID_RESPONSE: a count is missing or the answer is too long.
        """
        for part in parts:
            self._take(part)
        if self._size > ANSWER_CHARS_MAX:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The model's answer is longer than any answer may be."
            )
        if not self._has_text or not self._call.is_streaming:
            return None
        if self._open_count == 0 and not self._has_broken_off:
            return None
        batch = Batch()
        if self._is_counted:
            self._template.running_usage.completion_token_count = self._completion_tokens
            batch.CopyFrom(self._template)
        self._put_events(batch)
        return batch

    def end(self) -> Batch:
        """Return the last batch.

        Raises:
            ProviderError: INCOMPLETE: the model was aborted or never said why it ended.
        """
        for choice in self._choices:
            if choice.finish_reason not in _ENDS:
                what = "was aborted" if choice.finish_reason else "ended without a finish reason"
                raise ProviderError(Failure.INCOMPLETE, f"The model's answer {what}.")
        usage = self._usage()
        finish = router_pb2.Finish(
            chunk_head=self._head,
            usage_json=self._usage_json(),
            usage=usage,
            finish_reason=self._choices[0].finish_reason,
        )
        if not self._call.is_streaming:
            batch = Batch(completion=self._completion(finish.usage_json), finish=finish)
        else:
            finish.finish_chunks.extend(
                self._head + self._form.end % (index, choice.finish_reason.encode())
                for index, choice in enumerate(self._choices)
            )
            batch = Batch(finish=finish)
            self._put_events(batch)
        if self._is_counted:
            batch.running_usage.CopyFrom(usage)
        return batch

    def _take(self, part: Part) -> None:
        if self._is_counted:
            self._count(part)
        choice = self._choices[part.index]
        if choice.finish_reason:
            return
        if part.finish_reason:
            choice.finish_reason = part.finish_reason
            self._open_count -= 1
            self._has_broken_off |= part.finish_reason not in _ENDS
        if part.logprobs:
            choice.logprobs.extend(part.logprobs)
        if part.text:
            choice.gathered.append(part.text)
            self._size += len(part.text)
            self._chars += len(part.text)
            self._new_pieces += 1
            self._has_text = True

    def _count(self, part: Part) -> None:
        if self._prompt_tokens < 0:
            if part.num_input_tokens is None:
                raise ProviderError(
                    Failure.INVALID_RESPONSE, "The model's answer has no count of prompt tokens."
                )
            self._prompt_tokens = part.num_input_tokens
            self._template.running_usage.CopyFrom(self._usage())
        if part.num_output_tokens is None:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The model's answer has no count of output tokens."
            )
        self._completion_tokens += part.num_output_tokens

    def _put_events(self, batch: Batch) -> None:
        """Put all text that was not handed over into a batch, an event for each choice."""
        events = b""
        count = 0
        for choice in self._choices:
            if not self._has_started:
                events += choice.role
            if choice.gathered or choice.logprobs:
                count += bool(choice.gathered)
                events += choice.event(self._form)
        self._has_started = True
        self._has_text = False
        self._size = 0
        self._pieces += self._new_pieces
        # Where nobody counts, what is handed over is counted by its pieces.
        batch.content_event_count = count if self._is_counted else self._new_pieces
        self._new_pieces = 0
        batch.sse = events

    def _usage(self) -> usage_pb2.TokenUsage:
        if not self._is_counted:
            pieces = self._pieces + self._new_pieces
            # A piece of a stream is about a token; one that came whole is not.
            return estimate(pieces if pieces > 1 else max(1, -(-self._chars // CHARS_PER_TOKEN)))
        return usage_pb2.TokenUsage(
            prompt_token_count=self._prompt_tokens,
            completion_token_count=self._completion_tokens,
            source=usage_pb2.USAGE_SOURCE_UPSTREAM,
        )

    def _usage_json(self) -> bytes:
        if not self._is_counted:
            return b""
        prompt, completion = self._prompt_tokens, self._completion_tokens
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            prompt,
            completion,
            prompt + completion,
        )

    def _completion(self, usage_json: bytes) -> bytes:
        answer: dict[str, object] = {
            "id": self._call.answer_id,
            "object": self._form.object_name,
            "created": self._call.create_unix_s,
            "model": self._call.model_id,
            "choices": [self._whole(index, choice) for index, choice in enumerate(self._choices)],
        }
        if usage_json:
            answer["usage"] = msgspec.Raw(usage_json)
        return msgspec.json.encode(answer)

    def _whole(self, index: int, choice: _Choice) -> dict[str, object]:
        text = "".join(choice.gathered)
        message = {"role": "assistant", "content": text, "refusal": None}
        logprobs = None
        if choice.logprobs:
            entries = msgspec.Raw(b"[%b]" % b",".join(choice.logprobs))
            logprobs = {"content": entries, "refusal": None}
        return {
            "index": index,
            **({"text": text} if self._form is _TEXT else {"message": message}),
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }
