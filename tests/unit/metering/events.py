"""Usage events as the router writes them, with figures that follow from a number."""

from typing import Any, Final

from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent
from turnpike.type.v1.usage_pb2 import USAGE_SOURCE_UPSTREAM, Price, TokenUsage

START_MS: Final = 1_760_000_400_000
MINUTE_MS: Final = 60_000


def request_id(number: int) -> str:
    """Return the UUIDv7 of a request that started `number` minutes after the first."""
    head = f"{START_MS + number * MINUTE_MS:012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{number:012x}"


def outcome(number: int, **changes: Any) -> UsageEvent:
    """Return how request `number` ended; two accounts, three keys and two models take turns."""
    start = START_MS + number * MINUTE_MS
    event = UsageEvent(
        event_id=f"{request_id(number)}:outcome",
        kind=UsageEvent.KIND_OUTCOME,
        request_id=request_id(number),
        account_id=f"account-{number % 3 % 2}",
        key_id=f"key-{number % 3}",
        lease_id="lease",
        hold_nusd=1_000_000,
        model_id=f"model-{number % 2}",
        deployment="triton-a",
        provider="triton",
        price=Price(price_id="row-1", input_pusd_per_token=1, output_pusd_per_token=2),
        usage=TokenUsage(
            prompt_token_count=10 + number,
            completion_token_count=100 + number,
            cached_prompt_token_count=3,
            reasoning_token_count=4,
            source=USAGE_SOURCE_UPSTREAM,
        ),
        charge_nusd=1_000 + number,
        outcome=UsageEvent.OUTCOME_COMPLETED,
        finish_reason="stop",
        start_unix_ms=start,
        end_unix_ms=start + 900,
        ttft_ms=80,
        attempt_count=1,
        is_streaming=True,
    )
    event.MergeFrom(UsageEvent(**changes))
    return event


def intent(number: int) -> UsageEvent:
    """Return the event that names the hold of request `number`."""
    event = outcome(number)
    event.event_id, event.kind = f"{request_id(number)}:intent", UsageEvent.KIND_INTENT
    for name in ("usage", "charge_nusd", "outcome", "finish_reason", "end_unix_ms", "ttft_ms"):
        event.ClearField(name)
    return event


def batch(*events: UsageEvent) -> bytes:
    """Return events as the router publishes them; none is a mere watermark."""
    return UsageBatch(
        router_id="router-1", watermark_unix_ms=START_MS, events=events
    ).SerializeToString()
