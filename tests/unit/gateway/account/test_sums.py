"""Hours are added up to the groups that were asked for, and none is lost."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from gateway.account.sums import Sums
from turnpike.metering.v1 import metering_pb2


def hour(
    day: int, of_day: int, model: str, key: str, charge_nusd: int
) -> metering_pb2.UsageSummary:
    moment = datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=of_day)
    return metering_pb2.UsageSummary(
        hour_time=Timestamp(seconds=int(moment.timestamp())),
        model_id=model,
        key_id=key,
        request_count=1,
        prompt_token_count=2,
        completion_token_count=3,
        charge_nusd=charge_nusd,
    )


HOURS = [
    hour(1, 0, "m", "k1", 1),
    hour(1, 23, "m", "k1", 10),
    hour(2, 0, "m", "k2", 100),
    hour(2, 5, "n", "k1", 1_000),
]


def test_days_come_last_day_first() -> None:
    sums = Sums(("day",))
    for each in HOURS:
        sums.add([each])

    assert [("2026-11-02", 2, 1_100), ("2026-11-01", 2, 11)] == [
        (each["day"], each["request_count"], each["charge_nusd"]) for each in sums.shown()
    ]


def test_groups_are_named_as_records_name_them() -> None:
    sums = Sums(("model", "key"))
    sums.add(HOURS)

    assert {
        "object": "usage.sum",
        "model": "m",
        "key_id": "k1",
        "request_count": 2,
        "prompt_tokens": 4,
        "completion_tokens": 6,
        "charge_usd": "0.000000011",
        "charge_nusd": 11,
    } == sums.shown()[0]
    assert [("m", "k1"), ("m", "k2"), ("n", "k1")] == [
        (each["model"], each["key_id"]) for each in sums.shown()
    ]
