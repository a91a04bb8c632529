"""Access tokens over real sockets: kept, renewed by one at a time, waited for within bounds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from kit.clock import ManualClock
from services.router.providers.google import gcp_token
from services.router.providers.google.gcp_assertion import SCOPE, Grant
from services.router.providers.google.gcp_token import (
    MetadataGranter,
    ServiceAccountGranter,
    TokenSource,
)
from services.router.providers.port import Failure, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.gcp_accounts import GcpAccounts, new_key, open_gcp_accounts
from tests.fakes.openai_calls import eventually


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return new_key()


@pytest.fixture
async def accounts(key: RSAPrivateKey) -> AsyncIterator[GcpAccounts]:
    async with open_gcp_accounts(key) as opened:
        yield opened


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


def deadline(wait_s: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + wait_s


def with_key_file(accounts: GcpAccounts, pool: HttpPool, folder: Path) -> TokenSource:
    path = accounts.key_file(folder)
    return TokenSource(ServiceAccountGranter(path, pool=pool, clock=ManualClock()))


def with_metadata(accounts: GcpAccounts, pool: HttpPool) -> TokenSource:
    return TokenSource(MetadataGranter(accounts.url, pool=pool))


async def failure(source: TokenSource, wait_s: float = 10.0) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await source.token(deadline_s=deadline(wait_s))
    assert "secret" not in caught.value.message
    return caught.value


async def test_service_account_is_given_a_token_once(
    accounts: GcpAccounts, pool: HttpPool, tmp_path: Path
) -> None:
    source = with_key_file(accounts, pool, tmp_path)

    tokens = {await source.token(deadline_s=deadline()) for _ in range(3)}

    now_s = ManualClock().unix_ms() // 1000
    assert {"ya29.fake-1"} == tokens
    assert [
        {
            "iss": "robot@p.iam.gserviceaccount.com",
            "scope": SCOPE,
            "aud": f"{accounts.url}/token",
            "iat": now_s,
            "exp": now_s + 3600,
        }
    ] == accounts.claims


async def test_machine_is_given_a_token(accounts: GcpAccounts, pool: HttpPool) -> None:
    source = with_metadata(accounts, pool)

    assert "ya29.fake-1" == await source.token(deadline_s=deadline())
    assert "ya29.fake-1" == await source.token(deadline_s=deadline())


async def test_many_wait_for_one_fetch(accounts: GcpAccounts, pool: HttpPool) -> None:
    source = with_metadata(accounts, pool)

    tokens = await asyncio.gather(*(source.token(deadline_s=deadline()) for _ in range(20)))

    assert {"ya29.fake-1"} == set(tokens)
    assert 1 == accounts.metadata_count


async def test_cancelled_fetch_is_taken_over(accounts: GcpAccounts, pool: HttpPool) -> None:
    source = with_metadata(accounts, pool)
    accounts.mode = "hang"
    first = asyncio.ensure_future(source.token(deadline_s=deadline()))
    second = asyncio.ensure_future(source.token(deadline_s=deadline()))
    await eventually(lambda: accounts.hung_count == 1)
    accounts.mode = "usual"
    first.cancel()

    assert "ya29.fake-1" == await second


async def test_forgotten_token_is_asked_for_anew(accounts: GcpAccounts, pool: HttpPool) -> None:
    source = with_metadata(accounts, pool)
    await source.token(deadline_s=deadline())

    source.forget()

    assert "ya29.fake-2" == await source.token(deadline_s=deadline())


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("refuse", Failure.CREDENTIALS),
        ("junk", Failure.CREDENTIALS),
        ("broken", Failure.UNAVAILABLE),
    ],
)
async def test_without_a_token_there_is_a_failure(
    accounts: GcpAccounts, pool: HttpPool, mode: str, wanted: Failure
) -> None:
    accounts.mode = mode

    assert wanted is (await failure(with_metadata(accounts, pool))).failure


async def test_wait_ends_at_the_deadline(accounts: GcpAccounts, pool: HttpPool) -> None:
    accounts.mode = "hang"
    source = with_metadata(accounts, pool)

    found = await asyncio.gather(failure(source, 0.1), failure(source, 0.05))

    assert [Failure.TIMEOUT] * 2 == [error.failure for error in found]


@pytest.mark.parametrize("content", ["", "{}", '{"type": "service_account"}', None])
async def test_bad_key_file_is_a_matter_of_credentials(
    pool: HttpPool, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    source = TokenSource(ServiceAccountGranter(path, pool=pool, clock=ManualClock()))

    assert Failure.CREDENTIALS is (await failure(source)).failure


async def test_key_file_is_read_anew(
    accounts: GcpAccounts, pool: HttpPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcp_token, "REST_S", 0.0)
    path = tmp_path / "key.json"
    source = TokenSource(ServiceAccountGranter(path, pool=pool, clock=ManualClock()))
    await failure(source)

    accounts.key_file(tmp_path)

    assert "ya29.fake-1" == await source.token(deadline_s=deadline())


class Scripted:
    """Gives what it is told to, and counts how often it is asked."""

    def __init__(self, *given: Grant | ProviderError) -> None:
        self.given = list(given)
        self.count = 0

    async def grant(self, *, deadline_s: float) -> Grant:
        del deadline_s
        self.count += 1
        found = self.given.pop(0)
        if isinstance(found, ProviderError):
            raise found
        return found


DOWN = ProviderError(Failure.UNAVAILABLE, "Down.")


async def test_old_token_outlives_a_renewal_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_token, "REST_S", 0.0)
    granter = Scripted(Grant("one", 100.0), DOWN, Grant("two", 3600.0))
    source = TokenSource(granter)

    tokens = [await source.token(deadline_s=deadline()) for _ in range(4)]

    assert ["one", "one", "two", "two"] == tokens
    assert 3 == granter.count


async def test_failure_is_not_repeated_at_once() -> None:
    granter = Scripted(DOWN, Grant("one", 3600.0))
    source = TokenSource(granter)

    assert Failure.UNAVAILABLE is (await failure(source)).failure
    assert Failure.UNAVAILABLE is (await failure(source)).failure
    assert 1 == granter.count


async def test_token_that_soon_ends_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_token, "REST_S", 0.0)
    source = TokenSource(Scripted(Grant("one", 5.0), DOWN))

    await failure(source)


async def test_short_token_is_not_fetched_for_each_request() -> None:
    granter = Scripted(Grant("one", 200.0))
    source = TokenSource(granter)

    tokens = {await source.token(deadline_s=deadline()) for _ in range(5)}

    assert ({"one"}, 1) == (tokens, granter.count)


class Hanging:
    """Gives one token that soon ends, and then nothing for ever."""

    def __init__(self) -> None:
        self.count = 0

    async def grant(self, *, deadline_s: float) -> Grant:
        del deadline_s
        self.count += 1
        if self.count > 1:
            await asyncio.get_running_loop().create_future()
        return Grant("one", 100.0)


async def test_renewal_that_hangs_does_not_cost_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_token, "REST_S", 0.0)
    monkeypatch.setattr(gcp_token, "PATIENCE_S", 0.01)
    source = TokenSource(granter := Hanging())

    tokens = {await source.token(deadline_s=deadline()) for _ in range(3)}

    assert ({"one"}, 3) == (tokens, granter.count)


async def test_others_go_on_while_one_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_token, "REST_S", 0.0)
    source = TokenSource(granter := Hanging())
    await source.token(deadline_s=deadline())
    renewing = asyncio.ensure_future(source.token(deadline_s=deadline()))
    await eventually(lambda: granter.count == 2)

    assert "one" == await source.token(deadline_s=deadline())

    renewing.cancel()
    await asyncio.wait([renewing])
