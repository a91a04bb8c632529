"""The metering room on both engines: what it keeps, lists and sums, and what poison does to it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, inspect, select, text

from kit.clock import ManualClock
from kit.db import Database, downgrade, open_database, upgrade
from kit.db_writer import open_writer
from kit.errors import Reason, TurnpikeError
from services.metering.consumer import USAGE, UsageConsumer
from services.metering.records import Parcel
from services.metering.rollup import HOUR_MS
from services.metering.room import MIGRATIONS
from services.metering.store import METADATA, Applied, MeteringStore, Wanted
from services.metering.tables import DEAD_LETTERS
from tests.fixtures.migrated import migrate
from tests.unit.metering.events import MINUTE_MS, START_MS, batch, intent, outcome, request_id
from tests.unit.metering.rooms import SETTINGS, Room, UnsteadyBus, eventually, opened
from turnpike.metering.v1 import metering_pb2 as pb

COUNT = 130


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    await migrate(database_url, MIGRATIONS, METADATA)
    return database_url


@pytest.fixture
async def room(migrated_url: str) -> AsyncIterator[Room]:
    async with opened(migrated_url) as room:
        yield room


@pytest.fixture
async def full_room(room: Room) -> Room:
    """A room that stored 130 requests, a minute apart, in batches of 10."""
    for start in range(0, COUNT, 10):
        await room.publish(batch(*map(outcome, range(start, start + 10))))
    await room.settled()
    return room


async def test_migrations_make_exactly_the_tables_and_take_them_away(migrated_url: str) -> None:
    def difference(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(
            compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)
        )

    async with open_database(migrated_url) as database, database.read() as connection:
        assert [] == await connection.run_sync(difference)

    await downgrade(migrated_url, MIGRATIONS, METADATA, "base")

    async with open_database(migrated_url) as database, database.read() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    assert ["alembic_version"] == names

    await upgrade(migrated_url, MIGRATIONS, METADATA)


async def test_finished_request_is_listed_with_everything_that_was_counted(room: Room) -> None:
    await room.publish(batch(intent(3)), batch(), batch(outcome(3)))
    await room.settled()

    (record,) = await room.records()

    start = START_MS + 3 * MINUTE_MS
    assert (
        pb.UsageRecord(
            request_id=request_id(3),
            account_id="account-0",
            key_id="key-0",
            model_id="model-1",
            deployment="triton-a",
            provider="triton",
            usage=outcome(3).usage,
            charge_nusd=1_003,
            outcome="completed",
            finish_reason="stop",
            start_time=_time(start),
            duration_ms=900,
            ttft_ms=80,
            is_streaming=True,
            attempt_count=1,
        )
        == record
    )
    assert 3 == await room.applied_seq()


async def test_pages_of_usage_give_every_record_once_newest_first(full_room: Room) -> None:
    records = await full_room.records(page_size=7)

    assert [request_id(n) for n in reversed(range(COUNT))] == [r.request_id for r in records]
    assert records == await full_room.records(page_size=1_000)


async def test_usage_is_filtered_by_account_key_model_and_time(full_room: Room) -> None:
    async def listed(**filters: object) -> list[int]:
        found = await full_room.records(**filters)
        return [record.charge_nusd - 1_000 for record in reversed(found)]

    numbers = range(COUNT)
    assert [n for n in numbers if n % 3 == 1] == await listed(account_id="account-1")
    assert [n for n in numbers if n % 3 == 2] == await listed(key_id="key-2", page_size=5)
    assert [n for n in numbers if n % 6 == 4] == await listed(key_id="key-1", model_id="model-0")
    assert list(range(5, 100)) == await listed(
        start_time=_time(START_MS + 5 * MINUTE_MS), end_time=_time(START_MS + 100 * MINUTE_MS)
    )
    just_after = _time(START_MS + 5 * MINUTE_MS)
    just_after.nanos += 1
    assert list(range(6, COUNT)) == await listed(start_time=just_after)
    assert list(range(6)) == await listed(end_time=just_after)
    assert [] == await listed(account_id="nobody")


async def test_sums_equal_the_records_and_come_newest_hour_first(full_room: Room) -> None:
    sums = await full_room.summaries(page_size=3)

    expected: dict[tuple[int, str, str, str], list[int]] = {}
    for number in range(COUNT):
        event = outcome(number)
        hour = event.start_unix_ms - event.start_unix_ms % HOUR_MS
        total = expected.setdefault(
            (hour, event.account_id, event.key_id, event.model_id), [0, 0, 0, 0]
        )
        for at, amount in enumerate((1, 10 + number, 100 + number, 1_000 + number)):
            total[at] += amount
    assert sorted(expected.items(), reverse=True) == [
        (
            (_unix_ms(each.hour_time), each.account_id, each.key_id, each.model_id),
            [
                each.request_count,
                each.prompt_token_count,
                each.completion_token_count,
                each.charge_nusd,
            ],
        )
        for each in sums
    ]
    of_records, of_hours = await full_room.totals()
    assert of_records == of_hours


async def test_sums_of_a_span_begin_with_the_whole_first_hour(full_room: Room) -> None:
    second_hour = START_MS - START_MS % HOUR_MS + HOUR_MS

    sums = await full_room.summaries(
        key_id="key-1",
        model_id="model-0",
        account_id="account-1",
        start_time=_time(second_hour + 30 * MINUTE_MS),
        end_time=_time(second_hour + HOUR_MS),
    )

    numbers = [
        n
        for n in range(4, COUNT, 6)
        if second_hour <= outcome(n).start_unix_ms < second_hour + HOUR_MS
    ]
    assert [(second_hour, len(numbers), sum(1_000 + n for n in numbers))] == [
        (_unix_ms(each.hour_time), each.request_count, each.charge_nusd) for each in sums
    ]


async def test_charges_come_by_event_id_up_to_a_stream_position(full_room: Room) -> None:
    everything = await full_room.charges(page_size=9)

    assert [
        pb.Charge(
            event_id=f"{request_id(n)}:outcome",
            account_id=outcome(n).account_id,
            charge_nusd=1_000 + n,
            stream_seq=n // 10 + 1,
        )
        for n in range(COUNT)
    ] == everything
    assert everything[:40] == await full_room.charges(page_size=9, seq_max=4)
    assert COUNT // 10 == await full_room.applied_seq()


async def test_empty_room_answers_with_empty_pages(room: Room) -> None:
    assert ([], [], []) == (
        await room.records(),
        await room.summaries(),
        await room.charges(),
    )
    assert 0 == await room.applied_seq()


@pytest.mark.parametrize(
    ("request_message", "param"),
    [
        (pb.ListUsageRequest(page_size=1_001), "page_size"),
        (pb.ListUsageRequest(page_size=-1), "page_size"),
        (pb.ListUsageRequest(page_token="nonsense"), "page_token"),
        (pb.ListUsageRequest(account_id="a\0"), "account_id"),
        (pb.ListUsageRequest(key_id="k" * 201), "key_id"),
        (pb.ListUsageRequest(start_time=Timestamp(seconds=2**62)), "start_time"),
        (pb.SummarizeUsageRequest(page_size=10_001), "page_size"),
        (pb.SummarizeUsageRequest(page_token="WyJ1Il0"), "page_token"),
        (pb.SummarizeUsageRequest(end_time=Timestamp(seconds=-1)), "end_time"),
        (pb.ListChargesRequest(page_size=10_001), "page_size"),
        (pb.ListChargesRequest(page_token="!"), "page_token"),
        (pb.ListChargesRequest(stream_seq_max=-1), "stream_seq_max"),
    ],
    ids=str,
)
async def test_request_out_of_bounds_is_refused_by_the_name_of_its_field(
    room: Room, request_message: object, param: str
) -> None:
    method = type(request_message).__name__.removesuffix("Request")

    with pytest.raises(TurnpikeError) as caught:
        await getattr(room.metering, method)(request_message, None)

    assert (Reason.INVALID_VALUE, param) == (caught.value.reason, caught.value.metadata["param"])


async def test_poison_is_kept_apart_and_the_rest_flows(room: Room) -> None:
    with structlog.testing.capture_logs() as logs:
        await room.publish(
            batch(outcome(1)),
            b"\xff not a batch",
            batch(outcome(2), outcome(3, charge_nusd=-5), outcome(4)),
            batch(outcome(5)),
        )
        await room.settled()

    assert [1, 2, 4, 5] == [charge.charge_nusd - 1_000 for charge in await room.charges()]
    async with room.database.read() as connection:
        letters = (
            await connection.execute(
                select(DEAD_LETTERS.c.stream_seq, DEAD_LETTERS.c.position, DEAD_LETTERS.c.data)
            )
        ).all()
    assert [
        (2, -1, b"\xff not a batch"),
        (3, 1, outcome(3, charge_nusd=-5).SerializeToString()),
    ] == sorted(map(tuple, letters))
    assert [2] == room.bus.terminated
    assert 4 == await room.applied_seq()
    assert 2 == sum(e["count"] for e in logs if e["event"] == "metering_dead_letters")


async def test_batch_that_the_database_refuses_is_kept_apart_and_the_rest_flows(
    room: Room,
) -> None:
    await _refuse_records_of(room.database, "key-2")

    with structlog.testing.capture_logs() as logs:
        await room.publish(*(batch(outcome(number)) for number in range(6)))
        await room.settled()

    assert 2 == sum(e["count"] for e in logs if e["event"] == "metering_dead_letters")
    assert [0, 1, 3, 4] == [charge.charge_nusd - 1_000 for charge in await room.charges()]
    assert [3, 6] == room.bus.terminated
    assert 6 == await room.applied_seq()
    of_records, of_hours = await room.totals()
    assert of_records == of_hours


async def test_lost_acknowledgements_count_nothing_twice(room: Room) -> None:
    room.bus.lost_acks = 3
    await room.publish(*(batch(outcome(number), outcome(number)) for number in range(5)))
    await eventually(lambda: room.bus.lost_acks == 0 and room.bus.is_idle(is_settled=False))
    before = await room.totals()

    await room.redeliver()

    assert before == await room.totals()
    assert 5 == before[0][0] == before[1][0]


async def test_deliveries_wait_for_a_database_that_is_away(migrated_url: str) -> None:
    clock = ManualClock()
    bus = UnsteadyBus(clock)
    async with (
        open_database(migrated_url) as database,
        open_writer(database, name="metering") as write,
    ):
        store = _ShakyStore(
            database, write, stream=USAGE, settings=SETTINGS, clock=clock, failures=3
        )
        consumer = UsageConsumer(store, bus, settings=SETTINGS)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(consumer.run())
            await eventually(lambda: "USAGE" in bus._streams)
            await bus.publish_durable("usage.v1.r", batch(outcome(1)), message_id="")
            await eventually(bus.is_idle)
            running.cancel()

        rows, applied = await store.charges(after="", stream_seq_max=0, count_max=10)
    assert (0, 1, 1) == (store.failures, len(rows), applied)
    assert [] == bus.terminated


async def test_two_writers_at_once_count_every_request_once(migrated_url: str) -> None:
    async with (
        open_database(migrated_url) as database,
        open_writer(database, name="metering") as one,
        open_writer(database, name="metering") as other,
    ):
        first, second = (
            MeteringStore(database, w, stream=USAGE, settings=SETTINGS, clock=ManualClock())
            for w in (one, other)
        )
        parcels = [Parcel(seq, batch(*map(outcome, range(seq, seq + 20)))) for seq in range(1, 31)]
        for at in range(0, 30, 3):
            part = parcels[at : at + 3]
            await asyncio.gather(first.apply(part), second.apply(list(reversed(part))))

        rows, applied = await first.charges(after="", stream_seq_max=0, count_max=100)
        sums = await first.sums(Wanted(), before=None, count_max=100)
    assert (49, 30) == (len(rows), applied)
    assert 49 == sum(each.request_count for each in sums)


async def test_unanswering_database_is_unavailable(room: Room) -> None:
    async with room.database.write() as connection:
        await connection.execute(text("DROP TABLE usage_hours"))

    with pytest.raises(TurnpikeError) as caught:
        await room.summaries()

    assert Reason.UNAVAILABLE == caught.value.reason


async def test_both_engines_give_the_same_answers(sqlite_url: str, postgres_url: str) -> None:
    answers = []
    for url in (sqlite_url, postgres_url):
        await upgrade(url, MIGRATIONS, METADATA)
        async with opened(url) as room:
            names = ("Zebra", "apple", "a-b", "ab", "\u00e4pfel", "_x")
            for at, name in enumerate(names):
                events = [
                    outcome(n, account_id=name, model_id=name) for n in range(at, 60, len(names))
                ]
                await room.publish(batch(*events, *map(intent, range(at))))
            await room.settled()
            answers.append(
                (
                    await room.records(page_size=7),
                    await room.summaries(page_size=7),
                    await room.charges(page_size=7),
                    await room.applied_seq(),
                )
            )

    assert answers[0] == answers[1]
    assert 60 == len(answers[0][0])


class _ShakyStore(MeteringStore):
    """A store whose database is away for the first transactions."""

    def __init__(self, *args: object, failures: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.failures = failures

    async def apply(self, parcels: list[Parcel]) -> Applied:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise TurnpikeError(Reason.UNAVAILABLE, "The usage database does not answer.")
        return await super().apply(parcels)


async def _refuse_records_of(database: Database, key_id: str) -> None:
    """Let the database itself refuse records of a key, as a broken rule of its own would."""
    if database.is_sqlite:
        statements = [
            "CREATE TRIGGER refuse BEFORE INSERT ON usage_records"
            f" WHEN NEW.key_id = '{key_id}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ]
    else:
        statements = [
            f"ALTER TABLE usage_records ADD CONSTRAINT refuse CHECK (key_id <> '{key_id}')"
        ]
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def _time(unix_ms: int) -> Timestamp:
    return Timestamp(seconds=unix_ms // 1000, nanos=unix_ms % 1000 * 1_000_000)


def _unix_ms(moment: Timestamp) -> int:
    return moment.ToMilliseconds()
