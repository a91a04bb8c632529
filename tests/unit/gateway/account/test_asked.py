"""What callers may ask about usage and set as a budget; the rest is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.account.asked import BUDGET_NUSD_MAX, budget_nusd, episode_id, usage_query
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd

EPISODE = "0199d1c8-0000-7000-8000-00000000abcd"
MADE_UNIX_MS = 0x0199D1C80000


def test_query_without_anything_asks_for_the_first_page() -> None:
    query = usage_query({})

    assert ((), "", "", "", None, None, 100, "") == query


def test_query_reads_all_of_it() -> None:
    query = usage_query(
        {
            "start_time": "2026-11-01",
            "end_time": "2026-11-02T10:00:00.5+02:00",
            "model": "acme/small",
            "key_id": "k",
            "episode_id": EPISODE.upper(),
            "limit": "1000",
            "page": "next",
        }
    )

    assert query.start_time is not None
    assert query.end_time is not None
    assert "2026-11-01T00:00:00Z" == query.start_time.ToJsonString()
    assert "2026-11-02T08:00:00.500Z" == query.end_time.ToJsonString()
    assert ("acme/small", "k", EPISODE, 1_000, "next") == query[1:4] + query[6:]


def test_plus_sign_that_nobody_escaped_is_a_zone() -> None:
    moment = usage_query({"start_time": "2026-11-02T10:00:00 02:00"}).start_time

    assert moment is not None
    assert "2026-11-02T08:00:00Z" == moment.ToJsonString()


def test_groups_keep_their_order() -> None:
    assert ("key", "day") == usage_query({"group_by": "key, day"}).groups


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"from": "2026-11-01"}, "from"),
        ({"group_by": "hour"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"group_by": "day", "page": "x"}, "group_by"),
        ({"group_by": "day", "episode_id": EPISODE}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e2"}, "limit"),
        ({"limit": "9" * 400}, "limit"),
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "1969-12-31"}, "start_time"),
        ({"end_time": ""}, "end_time"),
        ({"model": "m" * 201}, "model"),
        ({"key_id": "k\n"}, "key_id"),
    ],
)
def test_query_that_cannot_be_honoured_is_refused_by_name(sent: dict[str, str], param: str) -> None:
    with pytest.raises(TurnpikeError) as refused:
        usage_query(sent)

    assert 400 == refused.value.outward.http_status
    assert param == refused.value.metadata["param"]


@given(amount=st.integers(0, BUDGET_NUSD_MAX))
def test_budget_in_usd_and_in_nano_usd_is_the_same(amount: int) -> None:
    in_usd = budget_nusd(f'{{"budget_usd": "{format_usd(amount)}"}}'.encode())

    assert amount == in_usd == budget_nusd(f'{{"budget_nusd": {amount}}}'.encode())


def test_episode_of_the_past_is_named_in_lower_case() -> None:
    assert EPISODE == episode_id(EPISODE.upper(), now_unix_ms=MADE_UNIX_MS - 10_000)


def test_episode_of_the_future_is_refused() -> None:
    with pytest.raises(TurnpikeError) as refused:
        episode_id(EPISODE, now_unix_ms=MADE_UNIX_MS - 10_001)

    assert Reason.INVALID_VALUE == refused.value.reason
