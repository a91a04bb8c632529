"""Keys that AWS lends: asked for once, renewed before they end, and what botocore would get."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.utils import ContainerMetadataFetcher, InstanceMetadataFetcher
from hypothesis import given
from hypothesis import strategies as st

from kit.clock import ManualClock, SystemClock
from services.router.aws_adapters import open_bedrock
from services.router.aws_entries import BedrockEntry
from services.router.providers.aws.identity import read_assumed_role, read_metadata
from services.router.providers.aws.keys import (
    ContainerLender,
    InstanceLender,
    Lender,
    LentKeys,
    WebIdentityLender,
)
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.port import Failure, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.aws_calls import ask, folded
from tests.fakes.aws_identity import ROLE, SHOWN, AwsIdentity, open_aws_identity
from tests.fakes.aws_server import KEY_ID, REGION, SECRET, TOKEN
from tests.fakes.bedrock_upstream import open_bedrock_upstream

LENDERS = ["container", "instance", "web_identity"]


@pytest.fixture
async def identity() -> AsyncIterator[AwsIdentity]:
    async with open_aws_identity() as opened:
        yield opened


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(SHOWN + "\n")
    return path


def lender(name: str, identity: AwsIdentity, pool: HttpPool, token_file: Path) -> Lender:
    if name == "container":
        return ContainerLender(f"{identity.base_url}/v1/credentials", str(token_file), pool=pool)
    if name == "instance":
        return InstanceLender(identity.base_url, pool=pool)
    return WebIdentityLender(identity.base_url, ROLE, str(token_file), pool=pool)


def soon_s() -> float:
    return asyncio.get_running_loop().time() + 9


@pytest.mark.parametrize("name", LENDERS)
async def test_keys_are_asked_once_and_renewed_before_they_end(
    identity: AwsIdentity, pool: HttpPool, token_file: Path, name: str
) -> None:
    clock = ManualClock()
    identity.end_unix_s = clock.unix_ms() // 1000 + 3600
    keys = LentKeys(lender(name, identity, pool, token_file), clock=clock)

    found = await asyncio.gather(*(keys.current(soon_s()) for _ in range(5)))
    count = sum(identity.asked.values())
    clock.advance(3200)
    await keys.current(soon_s())
    assert count == sum(identity.asked.values())
    clock.advance(200)
    identity.end_unix_s += 3600
    await keys.current(soon_s())

    assert {(KEY_ID, SECRET, TOKEN)} == {
        tuple(secret.get_secret_value() for secret in one) for one in found
    }
    assert 2 * count == sum(identity.asked.values())


async def test_old_keys_serve_while_no_new_ones_can_be_had(
    identity: AwsIdentity, pool: HttpPool, token_file: Path
) -> None:
    clock = ManualClock()
    identity.end_unix_s = clock.unix_ms() // 1000 + 3600
    keys = LentKeys(lender("container", identity, pool, token_file), clock=clock)
    first = await keys.current(soon_s())
    identity.status = 500

    clock.advance(3500)
    assert first == await keys.current(soon_s())
    assert first == await keys.current(soon_s())
    assert 2 == identity.asked["/v1/credentials"]
    clock.advance(11)
    assert first == await keys.current(soon_s())
    assert 3 == identity.asked["/v1/credentials"]
    clock.advance(101)
    with pytest.raises(ProviderError) as caught:
        await keys.current(soon_s())

    assert Failure.CREDENTIALS is caught.value.failure


@pytest.mark.parametrize("name", LENDERS)
@pytest.mark.parametrize("broken", [{"status": 403}, {"body": "{}"}, {"body": ""}, {"is_slow": 1}])
async def test_who_lends_nothing_is_named_and_not_quoted(
    identity: AwsIdentity, pool: HttpPool, token_file: Path, name: str, broken: dict[str, Any]
) -> None:
    for field, value in broken.items():
        setattr(identity, field, value)
    keys = LentKeys(lender(name, identity, pool, token_file), clock=SystemClock())

    with pytest.raises(ProviderError) as caught:
        await keys.current(asyncio.get_running_loop().time() + (0.1 if identity.is_slow else 9))

    assert Failure.CREDENTIALS is caught.value.failure
    assert "secret" not in caught.value.message


async def test_token_that_is_not_there_lends_nothing(
    identity: AwsIdentity, pool: HttpPool, tmp_path: Path
) -> None:
    for name in ("container", "web_identity"):
        keys = LentKeys(lender(name, identity, pool, tmp_path / "none"), clock=SystemClock())
        with pytest.raises(ProviderError):
            await keys.current(soon_s())

    assert not identity.asked


async def test_fake_lends_to_botocore_what_it_lends_to_us(identity: AwsIdentity) -> None:
    def run() -> list[tuple[str, str, str]]:
        agent = ContainerMetadataFetcher().retrieve_full_uri(
            f"{identity.base_url}/v1/credentials", headers={"Authorization": SHOWN}
        )
        instance = InstanceMetadataFetcher(
            base_url=identity.base_url + "/", config={"ec2_metadata_v1_disabled": True}
        ).retrieve_iam_role_credentials()
        client = botocore.session.Session().create_client(
            "sts",
            region_name=REGION,
            endpoint_url=identity.base_url,
            config=Config(signature_version=UNSIGNED, proxies={}),
        )
        role = client.assume_role_with_web_identity(
            RoleArn=ROLE, RoleSessionName="turnpike", WebIdentityToken=SHOWN
        )["Credentials"]
        client.close()
        return [
            (agent["AccessKeyId"], agent["SecretAccessKey"], agent["Token"]),
            (instance["access_key"], instance["secret_key"], instance["token"]),
            (role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"]),
        ]

    found = await asyncio.to_thread(run)

    assert [(KEY_ID, SECRET, TOKEN)] * 3 == found


@pytest.mark.parametrize("name", LENDERS)
async def test_request_is_signed_with_keys_that_were_lent(
    identity: AwsIdentity, pool: HttpPool, token_file: Path, name: str
) -> None:
    async with open_bedrock_upstream() as upstream:
        entry = BedrockEntry.model_validate(
            {
                "kind": "bedrock",
                "region": REGION,
                "base_url": upstream.base_url,
                "identity": name,
                "container_url": f"{identity.base_url}/v1/credentials",
                "token_file": str(token_file),
                "role_arn": ROLE,
                "metadata_url": identity.base_url,
                "sts_url": identity.base_url,
            }
        )
        fetcher = ImageFetcher(FetchRules())
        async with open_bedrock(entry, pool=pool, fetcher=fetcher, clock=SystemClock()) as provider:
            batches = await ask(provider, call={"upstream_model": "anthropic.claude"})

        assert "Hello wörld" == folded(batches)["content"]
        assert TOKEN == upstream.seen[0].headers["x-amz-security-token"]


@given(st.binary(max_size=80))
def test_no_answer_whatsoever_breaks_the_readers(body: bytes) -> None:
    for read in (read_metadata, read_assumed_role):
        with pytest.raises(ProviderError):
            read(base64.b64encode(body))
        with pytest.raises(ProviderError):
            read(body)
