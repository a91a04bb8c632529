"""The response object: of a whole answer, and of a stream's state at any time; pure.

Source: OpenAI API reference, "The response object" (read 2026-11), and the types of openai-python
3.52. `store` is always false, and `completed_at` null: no clock is read here.
"""

from typing import Final, NamedTuple

import msgspec

from gateway.call import ModelCall
from gateway.openai.schema import encode
from gateway.responses.chunks import read_answer, service_tier, take, usage_of
from gateway.responses.output import COMPLETED, INCOMPLETE, Item, Output
from gateway.responses.request import Asked
from kit.errors import Reason, TurnpikeError
from turnpike.type.v1 import usage_pb2

_INCOMPLETE_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Head(NamedTuple):
    """What is the same in every state of a response."""

    request_id: str
    create_unix_s: int
    model: str


def whole_response(completion: bytes, call: ModelCall, asked: Asked, request_id: str) -> bytes:
    """Return the response object for a whole chat completion.

    Raises:
        TurnpikeError: `UPSTREAM_INVALID_RESPONSE`: it is none.
    """
    try:
        answer = read_answer(completion)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise TurnpikeError(
            Reason.UPSTREAM_INVALID_RESPONSE, "The upstream's answer is no chat completion."
        ) from error
    output = Output(_nobody, request_id)
    choice = answer.choices[0]
    take(choice, output)
    status, details = ending(str(choice.finish_reason))
    return encode(
        {
            **told(Head(request_id, answer.created, answer.model), call, asked),
            "status": status,
            "incomplete_details": details,
            "output": output.close(status),
            "service_tier": service_tier(answer),
            "usage": usage_object(usage_of(answer.usage)),
        }
    )


def ending(finish_reason: str) -> tuple[str, dict[str, str] | None]:
    """Return the status and the `incomplete_details` that a chat completion's end amounts to."""
    reason = _INCOMPLETE_REASONS.get(finish_reason)
    return (COMPLETED, None) if reason is None else (INCOMPLETE, {"reason": reason})


def usage_object(usage: usage_pb2.TokenUsage) -> dict[str, object]:
    """Return the `usage` of a response."""
    prompt, completion = usage.prompt_token_count, usage.completion_token_count
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached_prompt_token_count,
            "cache_write_tokens": 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_token_count},
        "total_tokens": prompt + completion,
    }


def told(head: Head, call: ModelCall, asked: Asked) -> Item:
    """Return a response object without an outcome yet.

    Sampling that was not asked for is null, for then it is the model's own.
    """
    request = asked.request
    reasoning, text = request.reasoning, request.text
    return {
        "id": f"resp_{head.request_id}",
        "object": "response",
        "created_at": head.create_unix_s,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": _whole(request.max_output_tokens),
        "max_tool_calls": request.max_tool_calls,
        "model": head.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": None,
        "store": False,
        "temperature": call.fields.get("temperature"),
        "text": {"format": asked.text_format, "verbosity": text.verbosity if text else None},
        "tool_choice": asked.tools.shown_choice,
        "tools": asked.tools.shown,
        "top_logprobs": _whole(request.top_logprobs) or 0,
        "top_p": call.fields.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
    }


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)


def _nobody(_kind: str, **_members: object) -> None:
    """Take the events of an answer that is not streamed."""
