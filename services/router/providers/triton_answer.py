"""Folds what a Triton model sends into the batches of one answer; pure."""

from typing import Final, NamedTuple

import msgspec

from services.router.providers.port import Batch, Call, Failure, ProviderError
from services.router.providers.triton_tensors import Part
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

ANSWER_CHARS_MAX: Final = 32 * 1024 * 1024
"""Longest plain answer that is gathered in memory."""

_RUNNING: Final = b'"logprobs":null,"finish_reason":null}]}\n\n'
_GOES_ON: Final = frozenset({"", "None", "null"})
_ENDS: Final = frozenset({"stop", "length"})


class _Form(NamedTuple):
    """How one kind of answer is spelled, from `choices` on; empty where it has no such event."""

    object_name: str
    role: bytes
    content: bytes
    content_end: bytes
    end: bytes


_CHAT: Final = _Form(
    object_name="chat.completion",
    role=b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},' + _RUNNING,
    content=b'"choices":[{"index":0,"delta":{"content":',
    content_end=b"}," + _RUNNING,
    end=b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}]}',
)
_TEXT: Final = _Form(
    object_name="text_completion",
    role=b"",
    content=b'"choices":[{"index":0,"text":',
    content_end=b"," + _RUNNING,
    end=b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"%b"}]}',
)


class Answer:
    """One answer while it grows: text that was not handed over yet, and exact running totals."""

    __slots__ = (
        "_call",
        "_completion_tokens",
        "_content_end",
        "_content_start",
        "_finish_reason",
        "_form",
        "_gathered",
        "_has_started",
        "_head",
        "_prompt_tokens",
        "_size",
        "_template",
    )

    def __init__(self, call: Call, *, echo: str = "") -> None:
        """Begin an answer, which says `echo` before anything else."""
        self._call = call
        self._form = _TEXT if call.operation else _CHAT
        self._head = call.chunk_head + call.chunk_defaults
        self._content_start = b"data: " + self._head + self._form.content
        self._content_end = self._form.content_end
        self._gathered: list[str] = [echo] if echo else []
        self._size = len(echo)
        self._prompt_tokens = -1
        self._completion_tokens = 0
        self._finish_reason = ""
        self._has_started = False
        # Copied for each batch: cheaper than building the nested message anew.
        self._template = Batch(content_event_count=1)

    @property
    def is_finished(self) -> bool:
        """Whether the model said why it ended."""
        return self._finish_reason != ""

    @property
    def has_started(self) -> bool:
        """Whether a batch with content was made."""
        return self._has_started

    def add(self, parts: list[Part]) -> Batch | None:
        """Take what came and return the batch to hand over; None when there is no text to show.

        Text that came together becomes one event. Text that came with a good end waits for `end`.

        Raises:
            ProviderError: INVALID_RESPONSE: a count is missing or the answer is too long.
        """
        for part in parts:
            self._count(part)
            if part.text:
                self._gathered.append(part.text)
                self._size += len(part.text)
        if self._size > ANSWER_CHARS_MAX:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The model's answer is longer than any answer may be."
            )
        if not self._gathered or self._finish_reason in _ENDS or not self._call.is_streaming:
            return None
        batch = Batch()
        self._template.running_usage.completion_token_count = self._completion_tokens
        batch.CopyFrom(self._template)
        batch.sse = self._events()
        return batch

    def end(self) -> Batch:
        """Return the last batch.

        Raises:
            ProviderError: INCOMPLETE: the model was aborted or never said why it ended.
        """
        if self._finish_reason not in _ENDS:
            what = "was aborted" if self._finish_reason else "ended without a finish reason"
            raise ProviderError(Failure.INCOMPLETE, f"The model's answer {what}.")
        usage_json = self._usage_json()
        finish = router_pb2.Finish(
            chunk_head=self._head,
            usage_json=usage_json,
            usage=self._usage(),
            finish_reason=self._finish_reason,
        )
        if not self._call.is_streaming:
            completion = self._completion(usage_json)
            return Batch(completion=completion, running_usage=self._usage(), finish=finish)
        finish.finish_chunks.append(self._head + self._form.end % self._finish_reason.encode())
        count = 1 if self._gathered else 0
        return Batch(
            sse=self._events(),
            content_event_count=count,
            running_usage=self._usage(),
            finish=finish,
        )

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
        if part.finish_reason not in _GOES_ON:
            self._finish_reason = part.finish_reason

    def _events(self) -> bytes:
        events = b""
        if not self._has_started:
            self._has_started = True
            if self._form.role:
                events = b"data: " + self._head + self._form.role
        if self._gathered:
            text = self._gathered[0] if len(self._gathered) == 1 else "".join(self._gathered)
            self._gathered = []
            self._size = 0
            events += self._content_start + msgspec.json.encode(text) + self._content_end
        return events

    def _usage(self) -> usage_pb2.TokenUsage:
        return usage_pb2.TokenUsage(
            prompt_token_count=self._prompt_tokens,
            completion_token_count=self._completion_tokens,
            source=usage_pb2.USAGE_SOURCE_UPSTREAM,
        )

    def _usage_json(self) -> bytes:
        prompt, completion = self._prompt_tokens, self._completion_tokens
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            prompt,
            completion,
            prompt + completion,
        )

    def _completion(self, usage_json: bytes) -> bytes:
        text = "".join(self._gathered)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {
            "index": 0,
            **({"text": text} if self._form is _TEXT else {"message": message}),
            "logprobs": None,
            "finish_reason": self._finish_reason,
        }
        return msgspec.json.encode(
            {
                "id": self._call.answer_id,
                "object": self._form.object_name,
                "created": self._call.create_unix_s,
                "model": self._call.model_id,
                "choices": [choice],
                "usage": msgspec.Raw(usage_json),
            }
        )
