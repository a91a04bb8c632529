"""What is read from deliveries: records, and what is refused with its reason."""

import pytest

from services.metering.records import Extra, Parcel, Record, open_parcels
from tests.unit.metering.events import START_MS, batch, intent, outcome, request_id
from turnpike.events.v1.events_pb2 import UsageEvent


def test_outcome_becomes_a_record_with_everything_that_was_counted() -> None:
    opened = open_parcels([Parcel(7, batch(outcome(0)))])

    assert [
        Record(
            event_id=f"{request_id(0)}:outcome",
            account_id="account-0",
            key_id="key-0",
            model_id="model-0",
            deployment="triton-a",
            provider="triton",
            outcome="completed",
            finish_reason="stop",
            prompt_token_count=10,
            completion_token_count=100,
            cached_prompt_token_count=3,
            reasoning_token_count=4,
            usage_source=1,
            charge_nusd=1_000,
            start_unix_ms=START_MS,
            duration_ms=900,
            ttft_ms=80,
            is_streaming=True,
            attempt_count=1,
            stream_seq=7,
        )
    ] == list(opened.records.values())


def test_units_refund_and_episode_lie_beside_the_record_and_only_where_there_are_some() -> None:
    events = [
        outcome(1),
        outcome(2, price={"unit": "second"}, usage={"unit_count": 30}),
        outcome(3, refund_nusd=1_003, outcome=UsageEvent.OUTCOME_INVALID_OUTPUT),
        outcome(4, price={"unit": "image"}, episode_id="e\0" + "x" * 300),
    ]

    opened = open_parcels([Parcel(1, batch(*events))])

    ids = [f"{request_id(number)}:outcome" for number in range(5)]
    assert {
        ids[2]: Extra(ids[2], "second", 30, 0, ""),
        ids[3]: Extra(ids[3], "", 0, 1_003, ""),
        ids[4]: Extra(ids[4], "", 0, 0, "e?" + "x" * 198),
    } == opened.extras
    assert "invalid_output" == opened.records[ids[3]].outcome
    assert 4 == len(opened.records)


def test_intents_checkpoints_and_watermarks_leave_nothing() -> None:
    checkpoint = intent(2)
    checkpoint.event_id, checkpoint.kind = f"{request_id(2)}:1", UsageEvent.KIND_CHECKPOINT

    opened = open_parcels([Parcel(1, batch(intent(1), checkpoint)), Parcel(2, batch())])

    assert ({}, [], set()) == (opened.records, opened.dead_letters, opened.unreadable)


def test_first_of_several_events_with_one_id_counts() -> None:
    opened = open_parcels(
        [Parcel(1, batch(outcome(1), outcome(1))), Parcel(2, batch(outcome(1), outcome(2)))]
    )

    assert [1, 2] == [record.stream_seq for record in opened.records.values()]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": 9}, "unknown kind"),
        ({"request_id": "r" * 201}, "request_id is missing or too long"),
        ({"event_id": "other:outcome"}, "event_id is not the outcome's of its request"),
        ({"account_id": "a" * 129}, "account_id is missing or too long"),
        ({"account_id": "a\0"}, "an id is too long or not printable"),
        ({"key_id": "k" * 201}, "an id is too long or not printable"),
        ({"charge_nusd": -1}, "amount is out of range"),
        ({"charge_nusd": 10**15 + 1}, "amount is out of range"),
        ({"usage": {"prompt_token_count": -1}}, "token count is out of range"),
        ({"usage": {"reasoning_token_count": 2**62}}, "token count is out of range"),
        ({"usage": {"unit_count": -1}}, "unit count is out of range"),
        ({"usage": {"unit_count": 2**62}}, "unit count is out of range"),
        ({"refund_nusd": -1}, "refund is not a part of the charge"),
        ({"refund_nusd": 1_003}, "refund is not a part of the charge"),
        ({"start_unix_ms": -1}, "time is out of range"),
        ({"end_unix_ms": 2**62}, "time is out of range"),
    ],
)
def test_event_that_cannot_be_kept_is_set_aside_alone(
    changes: dict[str, object], reason: str
) -> None:
    opened = open_parcels([Parcel(5, batch(outcome(1), outcome(2, **changes), outcome(3)))])

    assert [f"{request_id(1)}:outcome", f"{request_id(3)}:outcome"] == list(opened.records)
    assert [(5, 1, reason)] == [
        (letter.stream_seq, letter.position, letter.reason) for letter in opened.dead_letters
    ]


def test_names_that_no_database_would_take_are_made_printable() -> None:
    opened = open_parcels([Parcel(1, batch(outcome(1, finish_reason="a\0b" + "x" * 300)))])

    (record,) = opened.records.values()
    assert "a?b" + "x" * 197 == record.finish_reason
    assert [] == opened.dead_letters


def test_bytes_that_are_no_batch_are_set_aside_whole() -> None:
    opened = open_parcels([Parcel(3, b"\xff\xff poison"), Parcel(4, batch(outcome(1)))])

    assert {3} == opened.unreadable
    assert [(3, -1)] == [(each.stream_seq, each.position) for each in opened.dead_letters]
    assert 1 == len(opened.records)
