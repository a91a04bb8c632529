"""An open auth room and what its tests look at."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration

from kit.bus.memory import MemoryBus
from kit.clock import ManualClock
from kit.db import Database, open_database
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from kit.secrets import token_digest
from services.auth.room import open_auth
from services.auth.servicer import AuthServicer
from services.auth.settings import AuthSettings
from services.auth.subjects import KEY_CHANGED
from turnpike.auth.v1 import auth_pb2 as pb
from turnpike.events.v1 import events_pb2

PEPPER: Final = "canary-pepper-4711"
NOBODY: Final = Uuid7Source().new(1_700_000_000_000)
SETTINGS: Final = AuthSettings.model_validate(
    {
        "pepper": PEPPER,
        "tiers": {
            "default": {"requests_per_minute": 40, "tokens_per_minute": 4_000},
            "free": {"requests_per_minute": 0, "tokens_per_minute": 0},
        },
        "heartbeat_s": 0.01,
    }
)


class RecordingBus(MemoryBus):
    """A bus that also remembers what light messages were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, data: bytes) -> None:
        self.published.append((subject, data))
        await super().publish(subject, data)

    def changes(self) -> list[events_pb2.KeyChanged]:
        changed = [data for subject, data in self.published if subject == KEY_CHANGED]
        return [events_pb2.KeyChanged.FromString(data) for data in changed]


class Room:
    """One open room and what tests look at."""

    def __init__(self, auth: AuthServicer, database: Database, bus: RecordingBus) -> None:
        self.auth = auth
        self.database = database
        self.bus = bus

    async def account(self) -> str:
        request = pb.CreateAccountRequest(name="Acme")
        return (await self.auth.CreateAccount(request, None)).account.account_id

    async def key(self, **fields: object) -> tuple[str, str]:
        owner = fields.pop("account_id", None) or await self.account()
        request = pb.CreateKeyRequest(account_id=owner, **fields)  # type: ignore[arg-type]
        made = await self.auth.CreateKey(request, None)
        return made.key.principal.key_id, made.secret

    async def verify(self, secret: str) -> pb.VerifyKeyResponse:
        request = pb.VerifyKeyRequest(key_digest=token_digest(secret))
        return await self.auth.VerifyKey(request, None)

    async def verdict(self, secret: str) -> Reason | None:
        try:
            await self.verify(secret)
        except TurnpikeError as error:
            return error.reason
        return None

    async def rotate(self, key_id: str, overlap_s: int | None = None) -> str:
        overlap = None if overlap_s is None else Duration(seconds=overlap_s)
        request = pb.RotateKeyRequest(key_id=key_id, overlap=overlap)
        return (await self.auth.RotateKey(request, None)).secret

    async def lease(self, key_id: str, requests: int, tokens: int) -> pb.LeaseRateResponse:
        request = pb.LeaseRateRequest(
            key_id=key_id, request_count=requests, token_count=tokens, holder_id="worker-1"
        )
        return await self.auth.LeaseRate(request, None)


@asynccontextmanager
async def opened(
    url: str, clock: ManualClock, settings: AuthSettings = SETTINGS
) -> AsyncIterator[Room]:
    bus = RecordingBus()
    async with (
        open_database(url) as database,
        open_auth(settings, database=database, bus=bus, clock=clock) as auth,
    ):
        yield Room(auth, database, bus)


async def eventually(predicate: Callable[[], bool], *, wait_s: float = 10.0) -> None:
    async with asyncio.timeout(wait_s):
        while not predicate():
            await asyncio.sleep(0.005)


async def reason_of(call: object) -> tuple[Reason, str]:
    with pytest.raises(TurnpikeError) as caught:
        await call  # type: ignore[misc]
    return caught.value.reason, caught.value.metadata.get("param", "")
