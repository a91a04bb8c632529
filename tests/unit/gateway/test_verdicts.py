"""Verdicts of auth are believed for a while, and never against what auth has pushed since."""

import asyncio
from typing import cast

import pytest

from gateway.settings import GatewaySettings
from gateway.verdicts import Verdicts
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import rpc_error
from kit.secrets import token_digest
from tests.fakes.openai_calls import eventually
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import principal_pb2

KEY = "sk-tp-one"


class Keys:
    """Auth's keys by digest; `error` makes every question fail."""

    def __init__(self) -> None:
        self.principals: dict[bytes, principal_pb2.Principal] = {}
        self.error: TurnpikeError | None = None
        self.asked_count = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    def add(
        self, key: str, *, key_id: str = "id", models: tuple[str, ...] = ()
    ) -> principal_pb2.Principal:
        principal = principal_pb2.Principal(key_id=key_id, scopes=["chat"], models=models)
        self.principals[token_digest(key)] = principal
        return principal

    async def VerifyKey(
        self, request: auth_pb2.VerifyKeyRequest, *, timeout: float
    ) -> auth_pb2.VerifyKeyResponse:
        assert timeout > 0
        self.asked_count += 1
        error, found = self.error, self.principals.get(request.key_digest)
        await self.is_open.wait()
        if error is None and found is None:
            error = TurnpikeError(Reason.INVALID_API_KEY, "There is no such key.")
        if error is not None:
            raise rpc_error(error)
        return auth_pb2.VerifyKeyResponse(principal=found)


class Desk:
    """Verdicts over auth's keys, with a heartbeat at the start."""

    def __init__(self, **limits: float) -> None:
        self.auth = Keys()
        self.clock = ManualClock()
        self.verdicts = Verdicts(
            auth=cast("auth_pb2_grpc.AuthServiceAsyncStub", self.auth),
            settings=GatewaySettings.model_validate(limits),
            clock=self.clock,
        )
        self.verdicts.heard_heartbeat()

    def advance(self, seconds: int, *, is_beating: bool = True) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            if is_beating:
                self.verdicts.heard_heartbeat()

    def knows(self, key: str = KEY) -> bool:
        return self.verdicts.cached(key) is not None

    async def refusal(self, key: str = KEY) -> TurnpikeError:
        with pytest.raises(TurnpikeError) as caught:
            await self.verdicts.verify(key)
        return caught.value


async def test_verdict_is_believed_for_its_ttl_and_no_longer() -> None:
    desk = Desk()
    desk.auth.add(KEY, models=("tiny-chat",))

    verdict = await desk.verdicts.verify(KEY)
    desk.advance(59)
    before_end = desk.knows()
    desk.advance(1)

    assert (frozenset({"chat"}), frozenset({"tiny-chat"})) == (verdict.scopes, verdict.models)
    assert before_end
    assert not desk.knows()
    assert not desk.knows("sk-tp-unknown")


async def test_verdict_is_believed_shortly_while_heartbeats_are_missing() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    await desk.verdicts.verify(KEY)

    desk.advance(3, is_beating=False)
    before_blind = desk.knows()
    desk.advance(1, is_beating=False)
    blind = desk.knows()
    desk.verdicts.heard_heartbeat()

    assert before_blind
    assert not blind
    assert desk.knows()


async def test_gateway_that_never_heard_auth_is_blind() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    deaf = Verdicts(
        auth=cast("auth_pb2_grpc.AuthServiceAsyncStub", desk.auth),
        settings=GatewaySettings(),
        clock=desk.clock,
    )
    await deaf.verify(KEY)

    desk.clock.advance(3)

    assert deaf.cached(KEY) is None


async def test_age_counts_from_before_auth_was_asked() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    desk.auth.is_open.clear()
    async with asyncio.TaskGroup() as group:
        verified = group.create_task(desk.verdicts.verify(KEY))
        await eventually(lambda: desk.auth.asked_count == 1)
        desk.advance(4)
        desk.auth.is_open.set()

    assert 0.0 == verified.result().verified_s


@pytest.mark.parametrize("error", [Reason.UNAVAILABLE, Reason.TIMEOUT, Reason.INTERNAL])
async def test_known_key_lives_on_while_auth_is_away_until_the_grace_ends(error: Reason) -> None:
    desk = Desk(verdict_grace_s=900)
    desk.auth.add(KEY)
    known = await desk.verdicts.verify(KEY)
    desk.auth.error = TurnpikeError(error, "Away.")

    desk.advance(900)
    still = await desk.verdicts.verify(KEY)
    desk.advance(1)
    refusal = await desk.refusal()

    assert known is still
    assert Reason.AUTH_UNAVAILABLE is refusal.reason
    assert {"retry_after_s": "1"} == refusal.metadata


async def test_unknown_key_is_not_let_in_while_auth_is_away() -> None:
    desk = Desk()
    desk.auth.error = TurnpikeError(Reason.UNAVAILABLE, "Away.")

    assert Reason.AUTH_UNAVAILABLE is (await desk.refusal()).reason


async def test_known_key_asks_an_absent_auth_once_a_second_and_finds_it_again() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    await desk.verdicts.verify(KEY)
    desk.advance(60)
    desk.auth.error = TurnpikeError(Reason.UNAVAILABLE, "Away.")

    for _ in range(10):
        await desk.verdicts.verify(KEY)
    asked_while_away = desk.auth.asked_count - 1
    desk.auth.error = None
    desk.advance(1)
    await desk.verdicts.verify(KEY)

    assert 1 == asked_while_away
    assert desk.knows()


async def test_refusal_of_auth_ends_a_known_key() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    await desk.verdicts.verify(KEY)
    desk.auth.error = TurnpikeError(Reason.KEY_REVOKED, "The API key was revoked.")

    refusal = await desk.refusal()
    desk.auth.error = TurnpikeError(Reason.UNAVAILABLE, "Away.")

    assert Reason.KEY_REVOKED is refusal.reason
    assert not desk.knows()
    assert Reason.AUTH_UNAVAILABLE is (await desk.refusal()).reason


async def test_pushed_change_forgets_every_secret_of_that_key_only() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    desk.auth.add("sk-tp-rotated")
    desk.auth.add("sk-tp-other", key_id="another")
    for key in (KEY, "sk-tp-rotated", "sk-tp-other"):
        await desk.verdicts.verify(key)

    desk.verdicts.forget(events_pb2.KeyChanged(key_id="id"))
    desk.verdicts.forget(events_pb2.KeyChanged(key_id="nobody"))

    assert [False, False, True] == [
        desk.knows(key) for key in (KEY, "sk-tp-rotated", "sk-tp-other")
    ]


async def test_change_that_overtakes_the_answer_of_auth_is_not_lost() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    desk.auth.is_open.clear()
    async with asyncio.TaskGroup() as group:
        refused = group.create_task(desk.refusal())
        await eventually(lambda: desk.auth.asked_count == 1)
        desk.auth.error = TurnpikeError(Reason.KEY_REVOKED, "The API key was revoked.")
        desk.verdicts.forget(events_pb2.KeyChanged(key_id="id", is_revoked=True))
        desk.auth.is_open.set()

    assert Reason.KEY_REVOKED is refused.result().reason
    assert not desk.knows()


async def test_change_of_another_key_asks_nothing_again() -> None:
    desk = Desk()
    desk.auth.add(KEY)
    desk.auth.is_open.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.verdicts.verify(KEY))
        await eventually(lambda: desk.auth.asked_count == 1)
        desk.verdicts.forget(events_pb2.KeyChanged(key_id="another"))
        desk.auth.is_open.set()

    assert 1 == desk.auth.asked_count
    assert set() == desk.verdicts._asking


async def test_key_expires_at_its_time_also_while_auth_is_away() -> None:
    desk = Desk()
    principal = desk.auth.add(KEY)
    principal.expire_time.FromMilliseconds(desk.clock.unix_ms() + 10_000)
    await desk.verdicts.verify(KEY)
    desk.advance(9)
    before = desk.knows()
    desk.advance(1)
    desk.auth.error = TurnpikeError(Reason.UNAVAILABLE, "Away.")

    with pytest.raises(TurnpikeError) as cached:
        desk.verdicts.cached(KEY)

    assert before
    assert Reason.KEY_EXPIRED is cached.value.reason
    assert Reason.KEY_EXPIRED is (await desk.refusal()).reason


async def test_oldest_verdicts_go_when_there_are_too_many() -> None:
    desk = Desk(verdicts_max=2)
    for number in range(3):
        desk.auth.add(f"sk-tp-{number}", key_id=f"id-{number}")
    for number in (0, 1, 0, 2):
        await desk.verdicts.verify(f"sk-tp-{number}")

    known = [desk.knows(f"sk-tp-{number}") for number in range(3)]

    assert [True, False, True] == known
    assert {"id-0", "id-2"} == set(desk.verdicts._digests)
