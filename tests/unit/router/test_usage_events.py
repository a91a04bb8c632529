"""What an outcome says: tokens, units, and an answer that is charged and given back."""

import pytest

from services.router.pricing import PriceRow
from services.router.usage_events import UsageEvent, price_message, price_of, recover, settle
from turnpike.type.v1.usage_pb2 import TokenUsage

PRICE = PriceRow("p", 1_000, 2_000, 3_000, 4_000, "image")


def intent() -> UsageEvent:
    return UsageEvent(request_id="r", kind=UsageEvent.KIND_INTENT, price=price_message(PRICE))


def settled(outcome: UsageEvent.Outcome.ValueType, **used: int) -> UsageEvent:
    event = intent()
    settle(event, PRICE, TokenUsage(**used), outcome)  # type: ignore[arg-type]
    return event


def test_price_row_survives_its_message() -> None:
    assert PRICE == price_of(intent())


@pytest.mark.parametrize(
    ("outcome", "used", "charge_nusd", "refund_nusd"),
    [
        (UsageEvent.OUTCOME_COMPLETED, {"unit_count": 2}, 3 + 8, 0),
        (UsageEvent.OUTCOME_COMPLETED, {"prompt_token_count": 5, "unit_count": 2}, 3 + 5 + 8, 0),
        (UsageEvent.OUTCOME_CLIENT_CLOSED, {"unit_count": 1}, 3 + 4, 0),
        (UsageEvent.OUTCOME_CLIENT_CLOSED, {"prompt_token_count": 5}, 0, 0),
        (UsageEvent.OUTCOME_UPSTREAM_FAILED, {}, 0, 0),
        (UsageEvent.OUTCOME_INVALID_OUTPUT, {"completion_token_count": 5}, 3 + 10, 13),
        (UsageEvent.OUTCOME_INVALID_OUTPUT, {"prompt_token_count": 5}, 3 + 5, 8),
    ],
)
def test_outcome_is_charged_for_what_was_used(
    outcome: UsageEvent.Outcome.ValueType,
    used: dict[str, int],
    charge_nusd: int,
    refund_nusd: int,
) -> None:
    event = settled(outcome, **used)

    assert (charge_nusd, refund_nusd) == (event.charge_nusd, event.refund_nusd)


def test_journalled_refund_is_kept_when_a_dead_router_is_settled() -> None:
    event = settled(UsageEvent.OUTCOME_INVALID_OUTPUT, completion_token_count=5)

    (found,) = recover([intent().SerializeToString(), event.SerializeToString()], now_unix_ms=9)

    assert event == found
    assert 13 == found.refund_nusd


def test_dead_routers_request_is_charged_for_the_units_of_its_last_checkpoint() -> None:
    checkpoint = intent()
    checkpoint.usage.unit_count = 7

    (found,) = recover([checkpoint.SerializeToString()], now_unix_ms=9)

    assert (3 + 28, 0) == (found.charge_nusd, found.refund_nusd)
