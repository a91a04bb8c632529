"""Dispatch for accounts that bring keys: who is called with what, and what it costs."""

from pathlib import Path

import pytest

from kit.errors import Reason, TurnpikeError
from services.router.pricing import charge_nusd
from services.router.providers.port import Failure, ProviderError
from services.router.settings import RouterSettings
from tests.unit.router.key_rigs import KeyRig
from tests.unit.router.scripted import (
    BYOK_PRICE,
    PRICE,
    Rig,
    Scripts,
    content,
    finish,
    open_rig,
    request,
)
from turnpike.events.v1 import events_pb2

Event = events_pb2.UsageEvent
OWN = "sk-own-canary-0123456789"
REFUSED = ProviderError(Failure.CREDENTIALS, "The upstream did not accept us.", status=401)
LIMITED = ProviderError(Failure.RATE_LIMITED, "Too many.", status=429, retry_after_s=40)
DOWN = ProviderError(Failure.UNAVAILABLE, "It is down.", status=503)
GOOD = [content("x"), finish(7, 3)]
OWN_NUSD = charge_nusd(BYOK_PRICE, prompt_tokens=7, completion_tokens=3)
USUAL_NUSD = charge_nusd(PRICE, prompt_tokens=7, completion_tokens=3)


async def ask(rig: Rig, account_id: str = "account-1") -> str:
    """Return the deployment that answered."""
    batches = [batch async for batch in rig.dispatcher.run(request(account_id=account_id))]
    return batches[0].route.deployment


def shown(rig: Rig, name: str) -> list[str]:
    """Return the keys that a deployment was called with; empty for the owner's."""
    calls = rig.providers[name].calls
    return [call.credential.get_secret_value() if call.credential else "" for call in calls]


async def test_only_the_account_with_a_key_is_served_with_it(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)

    async with open_rig(tmp_path, {"a": [GOOD, GOOD]}, own_keys=ring) as rig:
        await ask(rig)
        await ask(rig, "account-2")
        own, usual = await rig.outcomes()

    assert [OWN, ""] == shown(rig, "a")
    assert (True, OWN_NUSD, "price-2") == (own.is_byok, own.charge_nusd, own.price.price_id)
    assert (False, USUAL_NUSD) == (usual.is_byok, usual.charge_nusd)


async def test_intent_in_the_journal_has_the_price_for_the_own_key(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)

    scripts: Scripts = {"a": [[content("x"), content("y"), finish()]]}

    async with open_rig(tmp_path, scripts, own_keys=ring) as rig:
        stream = rig.dispatcher.run(request())
        await anext(stream)
        await rig.log.publish_once()
        (batch,) = await rig.batches()
        await stream.aclose()

    (event,) = batch.events
    assert (Event.KIND_INTENT, True, "price-2") == (event.kind, event.is_byok, event.price.price_id)


async def test_every_deployment_of_the_provider_is_called_with_the_key(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)
    scripts: Scripts = {"a-1": [[DOWN]], "a-2": [GOOD]}

    async with open_rig(tmp_path, scripts, own_keys=ring) as rig:
        assert "a-2" == await ask(rig)
        (outcome,) = await rig.outcomes()

    assert ([OWN], [OWN]) == (shown(rig, "a-1"), shown(rig, "a-2"))
    assert (True, OWN_NUSD, 2) == (outcome.is_byok, outcome.charge_nusd, outcome.attempt_count)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(REFUSED, Reason.PROVIDER_KEY_REFUSED), (LIMITED, Reason.RATE_LIMIT_EXCEEDED)],
)
async def test_refused_key_is_the_callers_matter_alone(
    tmp_path: Path, failure: ProviderError, reason: Reason
) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)
    tries = 6
    scripts: Scripts = {"a": [[failure]] * tries + [GOOD], "b": []}

    async with open_rig(tmp_path, scripts, own_keys=ring) as rig:
        for _ in range(tries):
            with pytest.raises(TurnpikeError) as caught:
                await ask(rig)
            assert reason is caught.value.reason
        assert {"a": False, "b": False} == rig.fleet.open_breakers()
        assert "a" == await ask(rig, "account-2")
        outcomes = await rig.outcomes()

    assert [] == rig.providers["b"].calls
    assert [0] * tries + [USUAL_NUSD] == [outcome.charge_nusd for outcome in outcomes]


async def test_owners_key_that_is_refused_rests_the_deployment_as_ever(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)

    async with open_rig(tmp_path, {"a": [[REFUSED]]}, own_keys=ring) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await ask(rig, "account-2")
        assert {"a": True} == rig.fleet.open_breakers()

    assert Reason.ALL_PROVIDERS_FAILED is caught.value.reason


async def test_with_fallback_the_same_deployment_is_asked_with_the_owners_key(
    tmp_path: Path,
) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN, has_fallback=True)

    async with open_rig(tmp_path, {"a": [[REFUSED], GOOD], "b": []}, own_keys=ring) as rig:
        assert "a" == await ask(rig)
        (outcome,) = await rig.outcomes()
        assert {"a": False, "b": False} == rig.fleet.open_breakers()

    assert [OWN, ""] == shown(rig, "a")
    assert (False, USUAL_NUSD, 2, "price-1") == (
        outcome.is_byok,
        outcome.charge_nusd,
        outcome.attempt_count,
        outcome.price.price_id,
    )


async def test_attempts_with_fallback_are_bounded(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN, has_fallback=True)
    settings = RouterSettings(attempts_max=1)

    async with open_rig(tmp_path, {"a": [[REFUSED], GOOD]}, settings, own_keys=ring) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await ask(rig)

    assert Reason.PROVIDER_KEY_REFUSED is caught.value.reason
    assert [OWN] == shown(rig, "a")


async def test_key_that_was_put_in_place_between_two_tries_is_the_one_that_is_used(
    tmp_path: Path,
) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)
    old = keys.store.rows.copy()
    await keys.put(ring, "account-1", "a", "sk-newer")
    newer, keys.store.rows = keys.store.rows, old

    def rotate() -> None:
        keys.store.rows = newer
        ring._forget("account-1")

    async with open_rig(tmp_path, {"a-1": [[rotate, DOWN]], "a-2": [GOOD]}, own_keys=ring) as rig:
        assert "a-2" == await ask(rig)

    assert ([OWN], ["sk-newer"]) == (shown(rig, "a-1"), shown(rig, "a-2"))


async def test_nobody_is_called_when_nobody_can_tell_whose_key_it_is(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)
    keys.store.is_away = True

    async with open_rig(tmp_path, {"a": [GOOD]}, own_keys=ring) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await ask(rig)

    assert Reason.UNAVAILABLE is caught.value.reason
    assert [] == rig.providers["a"].calls


async def test_events_and_journal_hold_no_key(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", OWN)

    async with open_rig(tmp_path, {"a": [GOOD, [REFUSED]]}, own_keys=ring) as rig:
        await ask(rig)
        with pytest.raises(TurnpikeError) as caught:
            await ask(rig)
        events = await rig.outcomes()
        written = b"".join(p.read_bytes() for p in (tmp_path / "journal").rglob("*") if p.is_file())

    assert 2 == len(events)
    assert OWN.encode() not in written
    assert OWN not in str(events) + str(caught.value) + repr(caught.value.__context__)
