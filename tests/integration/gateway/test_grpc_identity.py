"""Who calls over gRPC with TLS: certificates that stand for keys, and what they may not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from gateway.openai.schema import encode
from kit.errors import Reason
from tests.fixtures.catalogues import chat
from tests.fixtures.certificates import Authority, Certificate
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.fixtures.grpc_caller import SERVED, Told, caller_of, shown, told_by
from turnpike.router.v1 import router_pb2

SEARCH = "spiffe://example.org/ns/search"
BATCH = "batch.example.org"
REQUEST = router_pb2.RunRequest(body=encode(chat()))


@dataclass(frozen=True)
class Secured:
    """A site with TLS on both sides, and three keys that certificates may stand for."""

    site: Site
    authority: Authority
    folder: Path
    search: Key
    batch: Key
    plain: Key

    def credentials(self, own: Certificate | None) -> grpc.ChannelCredentials:
        pair = (own.key, own.cert) if own else (None, None)
        return grpc.ssl_channel_credentials(self.authority.pem, *pair)

    async def ask(self, own: Certificate | None, metadata: Any = ()) -> Told:
        async with caller_of(self.site, self.credentials(own)) as router:
            return await told_by(router.Run(REQUEST, metadata=metadata, timeout=10))

    async def payers(self) -> list[int]:
        keys = (self.search, self.batch, self.plain)
        return [len(await self.site.records(key)) for key in keys]


@pytest.fixture
async def secured(open_site: OpenSite, tmp_path: Path) -> Secured:
    authority = Authority()
    folder = tmp_path / "tls"
    folder.mkdir()
    cert, key = authority.sign("gateway", dns=("localhost",)).write(folder, "server")
    (folder / "ca.crt").write_bytes(authority.pem)
    settings = {
        **SERVED,
        "grpc_tls_cert": cert,
        "grpc_tls_key": key,
        "grpc_client_ca": folder / "ca.crt",
    }
    keys: dict[str, SecretStr] = {}
    site = await open_site(Wish(gateway=settings, grpc_keys=keys))
    found = Secured(site, authority, folder, await site.key(), await site.key(), await site.key())
    keys[SEARCH] = SecretStr(found.search.secret)
    keys[BATCH] = SecretStr(found.batch.secret)
    keys["old-service"] = SecretStr(found.plain.secret)
    return found


@pytest.mark.parametrize(
    ("common", "names", "payer"),
    [
        ("x", {"uris": (SEARCH,)}, "search"),
        ("x", {"dns": (BATCH,)}, "batch"),
        ("x", {"dns": ("other.example.org", BATCH)}, "batch"),
        ("old-service", {}, "plain"),
    ],
)
async def test_certificate_stands_for_its_key(
    secured: Secured, common: str, names: dict[str, Any], payer: str
) -> None:
    told = await secured.ask(secured.authority.sign(common, **names))

    key: Key = getattr(secured, payer)
    assert grpc.StatusCode.OK is told.code, told.text
    assert 1 == len(await secured.site.settled(key, 1))


async def test_certificate_and_another_key_are_refused_and_the_same_key_is_not(
    secured: Secured,
) -> None:
    own = secured.authority.sign("x", uris=(SEARCH,))

    other = await secured.ask(own, shown(secured.plain))
    other_header = await secured.ask(own, (("x-api-key", secured.plain.secret),))
    same = await secured.ask(own, shown(secured.search))

    assert [Reason.BAD_REQUEST] * 2 == [other.reason, other_header.reason]
    assert "certificate" in other.text
    assert grpc.StatusCode.OK is same.code
    await secured.site.settled(secured.search, 1)
    assert [1, 0, 0] == await secured.payers()


async def test_certificate_that_stands_for_nothing_needs_a_key(secured: Secured) -> None:
    own = secured.authority.sign("x", uris=("spiffe://example.org/ns/unknown",))

    without = await secured.ask(own)
    with_key = await secured.ask(own, shown(secured.plain))

    assert Reason.INVALID_API_KEY is without.reason
    assert grpc.StatusCode.OK is with_key.code


async def test_common_name_counts_only_without_other_names(secured: Secured) -> None:
    told = await secured.ask(secured.authority.sign("old-service", dns=("x.example.org",)))

    assert Reason.INVALID_API_KEY is told.reason


async def test_certificate_of_two_keys_is_refused(secured: Secured) -> None:
    told = await secured.ask(secured.authority.sign("x", uris=(SEARCH,), dns=(BATCH,)))

    assert Reason.BAD_REQUEST is told.reason


async def test_client_without_a_certificate_of_the_authority_does_not_come_in(
    secured: Secured,
) -> None:
    stranger = Authority().sign("x", uris=(SEARCH,))

    nobody = await secured.ask(None, shown(secured.plain))
    unknown = await secured.ask(stranger, shown(secured.plain))
    async with caller_of(secured.site) as router:
        plain_text = await told_by(router.Run(REQUEST, metadata=shown(secured.plain)))

    codes = {nobody.code, unknown.code, plain_text.code}
    assert {grpc.StatusCode.UNAVAILABLE} == codes
    assert [] == secured.site.logged()


async def test_certificate_that_was_renewed_is_shown_without_a_restart(secured: Secured) -> None:
    own = secured.authority.sign("x", uris=(SEARCH,))
    renewed = Authority()

    renewed.sign("gateway", dns=("localhost",)).write(secured.folder, "server")
    old_trust = await secured.ask(own)
    credentials = grpc.ssl_channel_credentials(renewed.pem, own.key, own.cert)
    async with caller_of(secured.site, credentials) as router:
        new_trust = await told_by(router.Run(REQUEST, timeout=10))

    assert grpc.StatusCode.UNAVAILABLE is old_trust.code
    assert grpc.StatusCode.OK is new_trust.code, new_trust.text


async def test_certificate_that_cannot_be_read_any_more_stays(secured: Secured) -> None:
    own = secured.authority.sign("x", uris=(SEARCH,))
    (secured.folder / "server.key").unlink()

    told = await secured.ask(own)

    assert grpc.StatusCode.OK is told.code
