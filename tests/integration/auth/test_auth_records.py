"""What the auth room keeps: tables, hashes of secrets, the audit chain."""

import asyncio
import json
import logging
from functools import partial

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from kit.clock import ManualClock
from kit.db import downgrade, open_database, upgrade
from kit.errors import Reason
from kit.ids import Uuid7Source
from kit.secrets import token_digest
from services.auth.audit import first_break
from services.auth.keys import Issuer, KeySpec, stored_hash
from services.auth.room import MIGRATIONS
from services.auth.store import METADATA, AuthStore
from tests.integration.auth.rooms import (
    PEPPER,
    Room,
)
from turnpike.auth.v1 import auth_pb2 as pb


def _bytes_that_end_in(last: int, count: int) -> bytes:
    return bytes(count - 1) + bytes([last])


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


async def test_secrets_are_kept_and_logged_nowhere(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        key_id, first = await room.key(name="app")
        second = await room.rotate(key_id)
        await room.verify(second)
        await room.auth.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), None)
        assert Reason.KEY_REVOKED == await room.verdict(first)

    async with room.database.read() as connection:
        rows = [
            value
            for table in METADATA.sorted_tables
            for row in await connection.execute(select(table))
            for value in row
        ]
    texts = "\n".join(str(value) for value in rows) + str(logs) + caplog.text
    blobs = [value for value in rows if isinstance(value, bytes)]

    for secret in (first, second):
        assert secret not in texts
        assert secret[8:-4] not in texts
        assert token_digest(secret) not in blobs
        assert stored_hash(PEPPER.encode(), token_digest(secret)) in blobs
        assert not any(secret.encode() in blob for blob in blobs)
    assert PEPPER not in texts


async def test_secrets_that_differ_in_their_last_bit_are_never_confused(
    room: Room, clock: ManualClock
) -> None:
    store = AuthStore(room.database, clock=clock, new_id=Uuid7Source().new)
    owners: dict[str, str] = {}
    for last in (0, 1):
        issuer = Issuer(
            prefix="sk-tp-", pepper=PEPPER.encode(), random_bytes=partial(_bytes_that_end_in, last)
        )
        issued = issuer.issue()
        account_id = await room.account()
        spec = KeySpec(account_id, "", ("chat",), (), "default", "", None, None, None)
        await store.create_key(
            spec, secret_hash=issued.secret_hash, hint=issued.hint, request_id=None
        )
        owners[issued.secret] = account_id

    found = {secret: (await room.verify(secret)).principal.account_id for secret in owners}
    prefixes = [await room.verdict(secret[:length]) for secret in owners for length in (20, 54)]

    assert owners == found
    assert {Reason.INVALID_API_KEY} == set(prefixes)


async def test_every_change_is_in_the_audit_chain_once(room: Room, clock: ManualClock) -> None:
    key_id, _ = await room.key()
    await room.rotate(key_id)
    for _ in range(2):
        await room.auth.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), None)
    await asyncio.gather(*(room.account() for _ in range(6)))

    store = AuthStore(room.database, clock=clock, new_id=Uuid7Source().new)
    entries = await store.list_audit(after_seq=0, count_max=100)

    actions = [entry.action for entry in entries]
    assert ["account.create", "key.create", "key.rotate", "key.revoke"] == actions[:4]
    assert ["account.create"] * 6 == actions[4:]
    assert first_break(entries) is None
    assert {"revoke_unix_ms": clock.unix_ms()} == json.loads(entries[3].after)
    assert entries[4:] == await store.list_audit(after_seq=4, count_max=100)


@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'x'", "DELETE FROM audit"])
async def test_database_refuses_to_change_the_audit(room: Room, statement: str) -> None:
    await room.account()

    with pytest.raises(DBAPIError, match="append-only"):
        async with room.database.write() as connection:
            await connection.execute(text(statement))
