"""The usage log: nothing is lost between a request's begin and the stream."""

import shutil
from pathlib import Path

import pytest

from kit.errors import Reason, TurnpikeError
from kit.journal_files import adopt_orphans
from kit.tasks import background
from services.router.settings import RouterSettings
from services.router.usage_events import encode_batch, recover
from services.router.usage_log import OpenUsage
from tests.unit.router.scripted import PRICE, Rig, open_rig, usage
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import usage_pb2

Event = events_pb2.UsageEvent


def intent(request_id: str) -> Event:
    return Event(
        event_id=f"{request_id}:intent",
        kind=Event.KIND_INTENT,
        request_id=request_id,
        account_id="a",
        lease_id="l",
        hold_nusd=1000,
        price=usage_pb2.Price(
            price_id="p",
            input_pusd_per_token=PRICE.input_pusd_per_token,
            output_pusd_per_token=PRICE.output_pusd_per_token,
        ),
    )


async def kinds(rig: Rig) -> list[tuple[str, int]]:
    await rig.log.publish_once()
    return [(e.request_id, e.kind) for batch in await rig.batches() for e in batch.events]


async def test_short_request_is_published_as_its_outcome_alone(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}) as rig:
        rig.log.open(intent("r1"), PRICE, 0.0).close(usage(1, 2), Event.OUTCOME_COMPLETED)

        published = await kinds(rig)

    assert [("r1", Event.KIND_OUTCOME)] == published


async def test_running_request_is_published_as_intent_then_outcome(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}) as rig:
        running = rig.log.open(intent("r1"), PRICE, 0.0)
        await rig.log.publish_once()
        running.close(usage(1, 2), Event.OUTCOME_COMPLETED)

        published = await kinds(rig)

    assert [("r1", Event.KIND_INTENT), ("r1", Event.KIND_OUTCOME)] == published


async def test_intent_is_published_once_and_renewed_while_it_runs(tmp_path: Path) -> None:
    settings = RouterSettings(hold_renew_s=0.000001)

    async with open_rig(tmp_path, {}, settings) as rig:
        rig.log.open(intent("r1"), PRICE, 0.0)
        await rig.log.publish_once()

        published = await kinds(rig)

    assert [("r1", Event.KIND_INTENT), ("r1", Event.KIND_CHECKPOINT)] == published


async def test_only_the_first_close_counts(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}) as rig:
        running = rig.log.open(intent("r1"), PRICE, 0.0)
        running.close(usage(1, 2), Event.OUTCOME_COMPLETED)
        running.close(usage(9, 9), Event.OUTCOME_CLIENT_CLOSED)

        (outcome,) = await rig.outcomes()

    assert 2 == outcome.usage.completion_token_count


async def test_every_event_survives_a_bus_that_is_away(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}) as rig:
        rig.bus.disconnect()
        async with background(rig.log.run, name="publisher", restart_delay_s=0.01):
            for number in range(20):
                rig.log.open(intent(f"r{number}"), PRICE, 0.0).close(
                    usage(1, 2), Event.OUTCOME_COMPLETED
                )
            is_drained_without_bus = await rig.log.drained(wait_s=0.05)
            rig.bus.reconnect()
            is_drained = await rig.log.drained(wait_s=10)
        outcomes = await rig.outcomes()

    assert (False, True) == (is_drained_without_bus, is_drained)
    assert 20 == len({outcome.event_id for outcome in outcomes})
    assert 0 == rig.log.backlog_count


async def test_batches_are_bounded_and_say_that_more_follows(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}, RouterSettings(batch_events_max=2)) as rig:
        for number in range(3):
            rig.log.open(intent(f"r{number}"), PRICE, 0.0).close(
                usage(1, 2), Event.OUTCOME_COMPLETED
            )

        await rig.log.publish_once()
        await rig.log.publish_once()
        batches = await rig.batches()

    assert [2, 1] == [len(batch.events) for batch in batches]
    assert 0 == batches[0].watermark_unix_ms
    assert batches[1].watermark_unix_ms > 0


async def test_many_open_requests_are_named_in_bounded_batches_before_the_watermark_moves(
    tmp_path: Path,
) -> None:
    async with open_rig(tmp_path, {}) as rig:
        for number in range(3):
            large = intent(f"r{number}")
            large.model_id = "m" * 270_000
            rig.log.open(large, PRICE, 0.0)

        is_more = [await rig.log.publish_once(), await rig.log.publish_once()]
        batches = await rig.batches()

    assert [True, False] == is_more
    assert [["r0", "r1"], ["r2"]] == [
        [event.request_id for event in batch.events] for batch in batches
    ]
    assert [True, False] == [batch.watermark_unix_ms == 0 for batch in batches]


async def test_full_journal_refuses_before_anything_is_sent(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {}) as rig:
        opened: list[OpenUsage] = []
        with pytest.raises(TurnpikeError) as caught:  # noqa: PT012 - the last of many is refused
            while True:
                opened.append(rig.log.open(intent(f"r{len(opened)}"), PRICE, 0.0))
        for running in opened:
            running.close(usage(1, 2), Event.OUTCOME_COMPLETED)

        backlog = rig.log.backlog_count

    assert Reason.JOURNAL_FULL == caught.value.reason
    assert len(opened) == backlog


async def test_dead_routers_requests_are_settled_from_their_last_record(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with open_rig(tmp_path, {}) as rig:
        rig.log.open(intent("whole"), PRICE, 0.0).close(usage(1, 2), Event.OUTCOME_COMPLETED)
        running = rig.log.open(intent("cut"), PRICE, 0.0)
        running.checkpoint(usage(5, 10))
        running.checkpoint(usage(5, 20))
        rig.log.open(intent("silent"), PRICE, 0.0)
        shutil.copytree(tmp_path / "journal", copy)

    (orphan,) = adopt_orphans(copy)
    events = {e.request_id: e for e in recover(orphan.records(), now_unix_ms=99)}
    orphan.discard()

    assert {"whole", "cut", "silent"} == set(events)
    assert Event.OUTCOME_COMPLETED == events["whole"].outcome
    assert Event.OUTCOME_RECOVERED == events["cut"].outcome
    assert 5 * 10 + 20 * 20 == events["cut"].charge_nusd
    assert 0 == events["silent"].charge_nusd
    assert {f"{name}:outcome" for name in events} == {e.event_id for e in events.values()}


def test_joined_records_parse_as_one_batch() -> None:
    records = [intent("r1").SerializeToString(), intent("r" * 300).SerializeToString()]

    batch = events_pb2.UsageBatch.FromString(encode_batch("router", 5, records))

    assert ["r1", "r" * 300] == [event.request_id for event in batch.events]
    assert ("router", 5) == (batch.router_id, batch.watermark_unix_ms)
