"""From an entry of a provider at AWS to an open adapter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kit.clock import Clock
from services.router.aws_entries import EMBEDDERS, AwsEntry, BedrockEntry, SageMakerEntry
from services.router.catalog import Deployment
from services.router.providers.aws import bedrock, sagemaker
from services.router.providers.aws.bedrock import BedrockCodec
from services.router.providers.aws.keys import (
    ContainerLender,
    FixedKeys,
    InstanceLender,
    Lender,
    LentKeys,
    WebIdentityLender,
)
from services.router.providers.aws.sagemaker import SageMakerCodec
from services.router.providers.aws.sagemaker_bodies import ContainerBody, EmbeddingBody, OpenAiBody
from services.router.providers.aws.sign import Credentials, Scope
from services.router.providers.aws.signer import AwsSigner
from services.router.providers.fetch import ImageFetcher
from services.router.providers.key_signer import KeySigner, OwnKeySigner
from services.router.providers.translated import Signer, Translated
from services.router.upstream import HttpPool


@asynccontextmanager
async def open_bedrock(
    entry: BedrockEntry, *, pool: HttpPool, fetcher: ImageFetcher, clock: Clock
) -> AsyncIterator[Translated]:
    """Open a provider for Bedrock's Converse; pool and fetcher stay the caller's.

    Raises:
        ValueError: The base URL or the key cannot be sent.
    """
    bearer = KeySigner("authorization", entry.api_key, scheme="Bearer")
    signer: Signer = bearer
    if not entry.api_key.get_secret_value():
        signer = OwnKeySigner(_signer(entry, bedrock.SERVICE, pool, clock), bearer)
    yield Translated(
        BedrockCodec(), signer, base_url=entry.url, pool=pool, fetcher=fetcher, clock=clock
    )


@asynccontextmanager
async def open_sagemaker(
    entry: SageMakerEntry,
    deployment: Deployment,
    *,
    pool: HttpPool,
    fetcher: ImageFetcher,
    clock: Clock,
) -> AsyncIterator[Translated]:
    """Open a provider for one endpoint on SageMaker; pool and fetcher stay the caller's.

    Raises:
        ValueError: The base URL or a header cannot be sent.
        TemplateFileError: The container needs a chat template, and its file is none.
    """
    codec = SageMakerCodec(_body(deployment, clock), entry.headers)
    signer = _signer(entry, sagemaker.SERVICE, pool, clock)
    yield Translated(codec, signer, base_url=entry.url, pool=pool, fetcher=fetcher, clock=clock)


def _body(deployment: Deployment, clock: Clock) -> ContainerBody:
    options = deployment.options
    kind = options.get("body", "openai")
    if kind == "openai":
        return OpenAiBody()
    if kind in EMBEDDERS:
        return EmbeddingBody(EMBEDDERS[kind])
    from services.router.providers.aws.sagemaker_generate import (  # noqa: PLC0415 - brings jinja2
        GenerateBody,
    )
    from services.router.template import load_chat_template  # noqa: PLC0415

    template = load_chat_template(Path(options["chat_template"]), clock=clock)
    return GenerateBody(kind, template)


def _signer(entry: AwsEntry, service: str, pool: HttpPool, clock: Clock) -> Signer:
    credentials = Credentials(entry.access_key_id, entry.secret_access_key, entry.session_token)
    lender = _lender(entry, pool)
    keys = FixedKeys(credentials) if lender is None else LentKeys(lender, clock=clock)
    return AwsSigner(keys, Scope(entry.region, service), clock=clock)


def _lender(entry: AwsEntry, pool: HttpPool) -> Lender | None:
    if entry.identity == "container":
        return ContainerLender(entry.container_url, entry.token_file, pool=pool)
    if entry.identity == "instance":
        return InstanceLender(entry.metadata_url, pool=pool)
    if entry.identity == "web_identity":
        return WebIdentityLender(entry.sts, entry.role_arn, entry.token_file, pool=pool)
    return None
