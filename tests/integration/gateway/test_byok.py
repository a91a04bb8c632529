"""Accounts that bring their own keys, through a whole site: who is called how, who pays what."""

import asyncio
import io
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import aio
from pydantic import SecretStr

from kit.bus.memory import MemoryBus
from kit.clock import SystemClock
from kit.db import open_database
from kit.errors import Reason
from kit.rpc.status import error_from_rpc
from services.router.room_keys import open_own_keys
from services.router.settings import RouterSettings
from tests.fakes.openai_script import Script, script_of
from tests.fakes.openai_upstream import Seen, open_openai_upstream
from tests.fakes.otlp_collector import open_collector
from tests.fixtures.catalogues import SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import MASTER_KEY, UPSTREAM_KEY, Key, OpenSite, Site, Wish, until
from tests.integration.gateway.test_gateway_secrets import log_text
from tests.integration.gateway.test_site_telemetry import telemetry
from tests.integration.gateway.wire import answer_of
from turnpike.payment.v1 import payment_pb2
from turnpike.router.v1 import provider_keys_pb2 as pb

__all__ = ["log_text"]
OWN = "sk-own-canary-4711-abcd"
OTHER = "sk-other-canary-4712-efgh"
BYOK_PRICE = {"input_usd_per_million": "0.01", "output_usd_per_million": "0.02"}


@dataclass(frozen=True, slots=True)
class Two:
    """A site, an account that brings a key, and one that does not."""

    site: Site
    own: Key
    usual: Key

    async def put(self, secret: str, *, provider: str = "main", **more: bool) -> pb.ProviderKey:
        """Store the account's key."""
        request = pb.PutProviderKeyRequest(
            account_id=self.own.account_id, provider=provider, secret=secret, **more
        )
        return (await self.site.provider_keys.PutProviderKey(request)).key

    async def delete(self, provider: str = "main") -> bool:
        """Delete the account's key."""
        request = pb.DeleteProviderKeyRequest(account_id=self.own.account_id, provider=provider)
        return (await self.site.provider_keys.DeleteProviderKey(request)).was_there

    def shown(self) -> list[str]:
        """Return what `main` was shown, in the order of its requests."""
        return [
            seen.headers["authorization"].removeprefix("Bearer ") for seen in self.site.main.seen
        ]

    def refuse(self, secret: str, status: int = 401) -> None:
        """Let `main` refuse this key."""

        def handler(seen: Seen) -> Script:
            if secret in seen.headers["authorization"]:
                return Script(status=status, message=f"no {secret}")
            return script_of(seen.raw)

        self.site.main.handler = handler


async def verified(site: Site) -> bool:
    answer = await site.payment.VerifyLedger(payment_pb2.VerifyLedgerRequest())
    return answer.is_clean


@pytest.fixture
async def two(open_site: OpenSite) -> Two:
    site = await open_site()
    return Two(site, await site.key(), await site.key())


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_each_account_is_served_with_its_own_key_or_the_owners(
    two: Two, is_streaming: bool
) -> None:
    await two.put(OWN)

    for key in (two.own, two.usual):
        answer = await answer_of(two.site.post(key, chat(stream=is_streaming)))
        assert 200 == answer.status

    assert [OWN, UPSTREAM_KEY] == two.shown()
    (own,), (usual,) = await two.site.settled(two.own, 1), await two.site.settled(two.usual, 1)
    assert (True, 0) == (own.is_byok, own.charge_nusd)
    assert own.usage == usual.usage
    usage = usual.usage
    assert (False, price_nusd(usage.prompt_token_count, usage.completion_token_count)) == (
        usual.is_byok,
        usual.charge_nusd,
    )
    await until(lambda: verified(two.site))


async def test_own_key_costs_what_the_catalogue_says_and_the_rest_of_the_hold_comes_back(
    open_site: OpenSite,
) -> None:
    async with open_openai_upstream() as main, open_openai_upstream() as spare:
        catalogue: Any = usual_catalogue(main, spare)
        catalogue["models"][SMALL]["deployments"][0]["byok_price"] = BYOK_PRICE
        site = await open_site(Wish(catalogue=catalogue))
        two = Two(site, await site.key(), await site.key())
        await two.put(OWN)

        await answer_of(site.post(two.own, chat()))
        (record,) = await site.settled(two.own, 1)

    usage = record.usage
    pusd = 10_000 * usage.prompt_token_count + 20_000 * usage.completion_token_count
    assert (True, -(-pusd // 1000)) == (record.is_byok, record.charge_nusd)
    assert 0 < record.charge_nusd
    await until(lambda: verified(site))


async def test_key_is_rotated_while_requests_run_and_none_begins_with_the_old_one(
    two: Two,
) -> None:
    await two.put(OWN)
    is_over = False

    async def ask() -> None:
        while not is_over:
            answer = await answer_of(two.site.post(two.own, chat(stream=True)))
            assert 200 == answer.status

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask())
        await until(lambda: len(two.site.main.seen) >= 20)
        await two.put(OTHER)
        late = len(two.site.main.seen) + two.site.gateway.deps.running.count
        await until(lambda: len(two.site.main.seen) >= late + 40)
        is_over = True

    shown = two.shown()
    assert {OWN, OTHER} == set(shown)
    assert {OTHER} == set(shown[late:])
    records = await two.site.settled(two.own, len(shown))
    assert {True} == {record.is_byok for record in records}


async def test_deleted_key_leaves_the_owners(two: Two) -> None:
    await two.put(OWN)
    await answer_of(two.site.post(two.own, chat()))

    assert await two.delete()
    await answer_of(two.site.post(two.own, chat()))

    assert [OWN, UPSTREAM_KEY] == two.shown()
    assert not await two.delete()
    records = await two.site.settled(two.own, 2)
    assert [False, True] == [record.is_byok for record in records]


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_key_is_told_to_its_account_and_harms_nobody_else(
    two: Two, status: int, is_streaming: bool
) -> None:
    await two.put(OWN)
    two.refuse(OWN, status)

    for _ in range(6):
        answer = await answer_of(two.site.post(two.own, chat(model=TWICE, stream=is_streaming)))
        assert (400, "provider_key_refused") == (answer.status, answer.error["code"])
        assert "main" in answer.error["message"]
    others = await answer_of(two.site.post(two.usual, chat(model=TWICE)))

    assert 200 == others.status
    assert "1" == others.headers["X-Turnpike-Attempts"]
    assert [] == two.site.spare.seen
    assert Counter({OWN: 6, UPSTREAM_KEY: 1}) == Counter(two.shown())
    records = await two.site.settled(two.own, 6)
    assert {("refused", 0)} == {(r.outcome, r.charge_nusd) for r in records}
    assert 'open_breakers{deployment="twice-main"} 0.0' in two.site.metrics()
    await until(lambda: verified(two.site))


async def test_own_limit_of_the_provider_is_told_as_a_limit(two: Two) -> None:
    await two.put(OWN)
    two.refuse(OWN, 429)

    answer = await answer_of(two.site.post(two.own, chat(model=TWICE)))

    assert (429, "rate_limit_exceeded") == (answer.status, answer.error["code"])
    assert "Retry-After" in answer.headers
    assert 200 == (await answer_of(two.site.post(two.usual, chat(model=TWICE)))).status


async def test_owners_key_stands_in_where_that_was_agreed_on(two: Two) -> None:
    await two.put(OWN, has_fallback=True)
    two.refuse(OWN)

    answer = await answer_of(two.site.post(two.own, chat()))

    assert (200, "2") == (answer.status, answer.headers["X-Turnpike-Attempts"])
    assert [OWN, UPSTREAM_KEY] == two.shown()
    (record,) = await two.site.settled(two.own, 1)
    usage = record.usage
    assert (False, price_nusd(usage.prompt_token_count, usage.completion_token_count)) == (
        record.is_byok,
        record.charge_nusd,
    )


async def test_key_that_another_router_puts_in_place_is_used_at_once(open_site: OpenSite) -> None:
    bus = MemoryBus()
    site = await open_site(Wish(bus=bus, router={"byok_refresh_s": 600}))
    two = Two(site, await site.key(), await site.key())
    await two.put(OWN)
    settings = RouterSettings.model_validate({"byok_keys": {"one": MASTER_KEY}})
    path = site.catalogue_path.parent / "router.db"

    async def is_changed() -> bool:
        await answer_of(site.post(two.own, chat()))
        return two.shown()[-1] == OTHER

    async with (
        open_database(f"sqlite+aiosqlite:///{path}") as database,
        open_own_keys(database, bus=bus, clock=SystemClock(), settings=settings) as there,
    ):
        assert there is not None
        assert not await is_changed()
        account_id = two.own.account_id
        await there.ring.put(account_id, "main", SecretStr(OTHER), has_fallback=False)
        await until(is_changed)

    assert await is_changed()


@pytest.mark.parametrize(
    ("request_", "reason", "words"),
    [
        ({"provider": "nobody"}, Reason.NOT_FOUND, "nobody"),
        ({"provider": ""}, Reason.MISSING_FIELD, "provider"),
        ({"account_id": ""}, Reason.MISSING_FIELD, "account_id"),
        ({"account_id": "a b"}, Reason.INVALID_VALUE, "account_id"),
        ({"secret": "canary with spaces"}, Reason.INVALID_VALUE, "printable"),
        ({"secret": "canary"}, Reason.INVALID_VALUE, "printable"),
        ({"secret": ""}, Reason.INVALID_VALUE, "printable"),
        ({"provider": "local"}, Reason.UNPROCESSABLE, "triton"),
        ({"provider": "cloud"}, Reason.UNPROCESSABLE, "vertex"),
        ({"provider": "aws"}, Reason.UNPROCESSABLE, "sagemaker"),
    ],
)
async def test_what_is_no_key_or_for_nobody_is_refused(
    open_site: OpenSite, request_: dict[str, str], reason: Reason, words: str
) -> None:
    catalogue = {
        "providers": {
            "main": {"kind": "openai_compat", "base_url": "http://127.0.0.1:1/v1"},
            "local": {"kind": "triton"},
            "cloud": {"kind": "vertex", "project": "p-1"},
            "aws": {"kind": "sagemaker", "region": "eu-west-1"},
        }
    }
    site = await open_site(Wish(catalogue=catalogue))
    fields: dict[str, Any] = {"account_id": "a", "provider": "main", "secret": OWN, **request_}

    with pytest.raises(aio.AioRpcError) as caught:
        await site.provider_keys.PutProviderKey(pb.PutProviderKeyRequest(**fields))

    error = error_from_rpc(caught.value)
    assert reason is error.reason
    assert words in error.message
    assert "canary" not in error.message


async def test_keys_are_listed_in_pages_without_their_secrets(two: Two) -> None:
    await two.put(OWN)
    await two.put(OTHER, provider="spare", has_fallback=True)
    request = pb.ListProviderKeysRequest(account_id=two.own.account_id, page_size=1)

    first = await two.site.provider_keys.ListProviderKeys(request)
    request.page_token = first.next_page_token
    second = await two.site.provider_keys.ListProviderKeys(request)
    none = await two.site.provider_keys.ListProviderKeys(
        pb.ListProviderKeysRequest(account_id=two.usual.account_id)
    )

    assert [("main", "abcd", False), ("spare", "efgh", True)] == [
        (key.provider, key.hint, key.has_fallback) for key in (*first.keys, *second.keys)
    ]
    assert ("", []) == (second.next_page_token, list(none.keys))
    assert "canary" not in f"{first}{second}"
    for bad in ("junk", "W10=", "x" * 2000):
        request.page_token = bad
        with pytest.raises(aio.AioRpcError):
            await two.site.provider_keys.ListProviderKeys(request)


async def test_no_canary_comes_out(log_text: io.StringIO, open_site: OpenSite) -> None:
    site = await open_site(Wish(router={"attempt_min_s": 0.1}))
    two = Two(site, await site.key(), await site.key())
    bodies = ""
    kept = await two.put(OWN)
    for script in ("status:401", "status:500", "body:junk", "cut_after:2", "body:error_late", ""):
        for is_streaming in (False, True):
            asked = chat(f"fake={script};message:{OWN}", stream=is_streaming, timeout_ms=300)
            answer = await answer_of(site.post(two.own, asked))
            bodies += answer.body.decode() + str(answer.headers)
    two.refuse(OWN)
    bodies += (await answer_of(site.post(two.own, chat()))).body.decode()
    await two.put(OTHER)
    await two.delete()
    await until(lambda: site.gateway.deps.running.count == 0)
    folder = site.catalogue_path.parent
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    shown = {
        "bodies": bodies,
        "logs": log_text.getvalue(),
        "access lines": str(site.logged()),
        "metrics": site.metrics(),
        "files": written.decode("latin-1"),
        "key": str(kept),
    }
    assert OWN in two.shown()
    canaries = (OWN, OTHER, "master-key-canary", "bWFzdGVyLWtleS1j")
    found = {(place, c) for place, text in shown.items() for c in canaries if c in text}
    assert set() == found
    assert len(shown["logs"]) > 500


async def test_no_key_is_in_a_trace(open_site: OpenSite) -> None:
    async with open_collector() as collector, AsyncExitStack() as stack:
        opened = await stack.enter_async_context(telemetry(collector, ratio=1.0))
        site = await open_site(Wish(telemetry=opened))
        two = Two(site, await site.key(), await site.key())
        await two.put(OWN)
        await answer_of(site.post(two.own, chat()))
        two.refuse(OWN)
        await answer_of(site.post(two.own, chat(stream=True)))
        await site.settled(two.own, 2)
        await stack.aclose()

    assert [OWN, OWN] == two.shown()
    assert 2 == len(collector.named("provider.attempt"))
    assert OWN.encode() not in collector.raw
