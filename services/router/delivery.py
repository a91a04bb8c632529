"""What of an answer reached the caller: the figure a cut answer is charged by; pure.

A batch counts as handed over when the consumer asks for the next one. Where the upstream keeps
running totals they are exact; else content events are counted and the usage is marked estimated.
"""

from typing import Final

from services.router.pricing import PriceRow
from services.router.providers.port import Batch
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

TokenUsage = usage_pb2.TokenUsage
_UNCOUNTED_SHARE: Final = 2
"""What nobody counted is taken at half its upper bound, in the caller's favour."""


class Delivered:
    """Counts what was handed over of one answer."""

    __slots__ = ("_completion_tokens_max", "_events", "_exact", "_prompt_tokens_max")

    def __init__(self, *, prompt_tokens_max: int, completion_tokens_max: int) -> None:
        self._prompt_tokens_max = prompt_tokens_max
        self._completion_tokens_max = completion_tokens_max
        self._events = 0
        self._exact: TokenUsage | None = None

    def add(self, batch: Batch) -> int:
        """Count a batch that was handed over: the consumer came back for more.

        Returns:
            The completion tokens handed over so far.
        """
        self._events += batch.content_event_count
        if batch.HasField("running_usage"):
            self._exact = batch.running_usage
        exact = self._exact
        return self._events if exact is None else exact.completion_token_count

    def usage(self) -> TokenUsage:
        """Return what a cut answer is charged by."""
        if self._exact is not None:
            return self._exact
        return estimated(self._prompt_tokens_max, min(self._events, self._completion_tokens_max))

    def usage_up_to(self, completion_tokens: int) -> TokenUsage:
        """Return the same where no more than so many tokens reached the client."""
        found = TokenUsage()
        found.CopyFrom(self.usage())
        found.completion_token_count = min(found.completion_token_count, completion_tokens)
        found.reasoning_token_count = min(found.reasoning_token_count, completion_tokens)
        return found


def estimated(prompt_tokens_max: int, content_events: int, *, is_whole: bool = False) -> TokenUsage:
    """Return the usage of an answer that no upstream counted.

    Nothing when nothing was said, unless the answer `is_whole`: vectors say nothing.
    """
    if content_events == 0 and not is_whole:
        return TokenUsage(source=usage_pb2.USAGE_SOURCE_ESTIMATED)
    return TokenUsage(
        prompt_token_count=prompt_tokens_max // _UNCOUNTED_SHARE,
        completion_token_count=content_events,
        source=usage_pb2.USAGE_SOURCE_ESTIMATED,
    )


def counted(
    usage: TokenUsage,
    prompt_tokens_max: int,
    completion_tokens_max: int,
    *,
    has_completion: bool = True,
) -> TokenUsage:
    """Return the usage of a whole answer: the upstream's, else an estimate within the bounds.

    An answer that has a completion is taken to have at least one token of it.
    """
    if usage.source != usage_pb2.USAGE_SOURCE_ESTIMATED:
        return usage
    tokens = 0
    if has_completion:
        tokens = max(1, min(usage.completion_token_count, completion_tokens_max))
    return estimated(prompt_tokens_max, tokens, is_whole=True)


def counted_units(usage: TokenUsage, price: PriceRow, envelope: router_pb2.Envelope) -> TokenUsage:
    """Return the usage of a finished answer of images, speech or text for speech.

    Its units were counted. Where tokens are sold and the upstream counted none, they are taken at
    half their upper bound, as an uncounted prompt is.
    """
    if price.unit:
        return usage
    found = TokenUsage()
    found.CopyFrom(usage)
    if usage.prompt_token_count or usage.completion_token_count:
        found.source = usage_pb2.USAGE_SOURCE_UPSTREAM
    elif price.input_pusd_per_token or price.output_pusd_per_token:
        found.prompt_token_count = envelope.prompt_tokens_max // _UNCOUNTED_SHARE
        found.completion_token_count = -(-envelope.max_tokens // _UNCOUNTED_SHARE)
        found.source = usage_pb2.USAGE_SOURCE_ESTIMATED
    return found
