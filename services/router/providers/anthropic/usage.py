"""What Claude counts, and why it stops, in OpenAI's words; pure.

The prompt's tokens leave out what was read from a cache or written to one. A later count takes the
place of an earlier one: all are totals. Source: Anthropic API reference, `usage` and
`stop_reason`; the types of anthropic-sdk-python 2.14 (read 2026-11).
"""

from typing import Final

import msgspec

from services.router.providers.chunk_writer import ChunkWriter, Counts
from services.router.providers.openai.forward import invalid

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class Detail(msgspec.Struct):
    """What output tokens were spent on."""

    thinking_tokens: int | None = None


class Usage(msgspec.Struct):
    """Counts of one message so far; None for what was not told."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: Detail | None = None


class Tally:
    """The counts of one answer."""

    def __init__(self) -> None:
        self._told = Usage()

    def take(self, usage: Usage) -> None:
        """Take what is told in the place of what was."""
        for name in Usage.__struct_fields__:
            if (value := getattr(usage, name)) is not None:
                setattr(self._told, name, value)

    def counts(self) -> Counts | None:
        """Return them in OpenAI's meaning, None while the prompt's or the answer's are missing."""
        told = self._told
        if told.input_tokens is None or told.output_tokens is None:
            return None
        read, written = told.cache_read_input_tokens or 0, told.cache_creation_input_tokens or 0
        detail = told.output_tokens_details
        reasoning = detail.thinking_tokens or 0 if detail is not None else 0
        if min(told.input_tokens, read, written, reasoning) < 0:
            raise invalid("The upstream reported an impossible usage.")
        return Counts(
            prompt=told.input_tokens + read + written,
            completion=told.output_tokens,
            cached=read,
            cache_written=written,
            reasoning=reasoning,
        )


def finish_reason(stop_reason: str, writer: ChunkWriter) -> str:
    """Return why an answer ended; one that calls tools ends for that.

    Raises:
        ProviderError: INVALID_RESPONSE: nobody knows the reason, or the answer has only paused.
    """
    reason = _FINISH_REASONS.get(stop_reason)
    if reason is None:
        raise invalid("The upstream ended its answer for a reason that is not known.")
    if reason in ("stop", "tool_calls"):
        return "tool_calls" if writer.tool_call_count else "stop"
    return reason
