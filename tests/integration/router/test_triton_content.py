"""Images and clients' templates at a real Triton, over both transports: P7, P8, P9, P36, P37."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SystemClock
from services.router.prompt_tools import PromptTools
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.adapter import TritonProvider, open_triton
from services.router.providers.triton.port import TritonConfig
from services.router.template import ChatTemplate
from services.router.template_pool import TemplateLimits, open_template_workers
from tests.fakes.image_host import IMAGE, ImageHost, open_image_host
from tests.fixtures.content_blocks import JPEG, PNG, data_url, image, pdf, text, user
from tests.fixtures.tls import certificate, server_context
from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import Transport, a_body, a_call, run, tiny_template

pytestmark = pytest.mark.timeout(180)
TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return certificate(tmp_path, name="img.example.com")


@pytest.fixture
async def host(files: tuple[Path, Path]) -> AsyncIterator[ImageHost]:
    async with open_image_host(server_context(files)) as opened:
        yield opened


@pytest.fixture
async def tools(host: ImageHost, files: tuple[Path, Path]) -> AsyncIterator[PromptTools]:
    rules = FetchRules(
        ports=frozenset({host.port}), networks=(ip_network("127.0.0.0/8"),), ca_file=str(files[0])
    )
    fetcher = ImageFetcher(rules, resolve=lambda _host, _port: ["127.0.0.1"])
    async with open_template_workers(TemplateLimits()) as workers:
        yield PromptTools(workers, fetcher)
    fetcher.close()


@pytest.fixture(params=["grpc", "http"])
def config(triton: Triton, tools: PromptTools, request: pytest.FixtureRequest) -> TritonConfig:
    transport: Transport = request.param
    return TritonConfig(
        model_name="tiny-picture",
        template=ChatTemplate(TEMPLATE, clock=SystemClock()),
        tools=tools,
        grpc_address=triton.grpc_address,
        http_address=triton.http_address,
        transport=transport,
    )


@pytest.fixture
async def provider(config: TritonConfig) -> AsyncIterator[TritonProvider]:
    async with open_triton(config) as opened:
        yield opened


def a_chat(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [user(*blocks)], **fields}


async def asked(provider: TritonProvider, triton: Triton, **fields: Any) -> dict[str, Any]:
    """Run a request and return what the model was shown."""
    before = len(triton.shown())
    await run(provider, a_call(max_tokens=3), a_body(**fields))
    (shown,) = triton.shown()[before:]
    return shown


def digests(*images: bytes) -> list[str]:
    return [hashlib.sha256(one).hexdigest() for one in images]


async def test_triton_model_sees_inline_and_fetched_images_in_their_order(
    provider: TritonProvider, triton: Triton, host: ImageHost
) -> None:
    blocks = [
        text("a"),
        image(data_url(PNG)),
        image(host.url("/a.png")),
        text("b"),
        image(data_url(JPEG, "image/jpeg")),
    ]

    shown = await asked(provider, triton, **a_chat(*blocks))

    assert "a<image><image>b<image>" == shown["prompt"]
    assert digests(PNG, IMAGE, JPEG) == shown["digests"]
    assert 1 == len(host.heads)


async def test_triton_is_not_asked_when_an_image_cannot_be_had(
    provider: TritonProvider, host: ImageHost
) -> None:
    with pytest.raises(ProviderError) as caught:
        await run(provider, a_call(), a_body(**a_chat(text(), image(host.url("/redirect")))))

    where = "messages[0].content[1].image_url.url"
    assert (Failure.REJECTED, where) == (caught.value.failure, caught.value.param)


async def test_triton_template_that_shows_no_image_leaves_it_to_other_deployments(
    config: TritonConfig, host: ImageHost
) -> None:
    async with open_triton(replace(config, template=tiny_template())) as provider:
        with pytest.raises(ProviderError) as caught:
            await run(provider, a_call(), a_body(**a_chat(image(host.url("/a.png")))))

    assert Failure.UNSUPPORTED is caught.value.failure
    assert [] == host.heads


async def test_triton_takes_no_documents(provider: TritonProvider) -> None:
    with pytest.raises(ProviderError) as caught:
        await run(provider, a_call(), a_body(**a_chat(text(), pdf())))

    assert (Failure.UNSUPPORTED, "messages[0].content[1]") == (
        caught.value.failure,
        caught.value.param,
    )


async def test_triton_gets_the_prompt_of_a_clients_template(
    provider: TritonProvider, triton: Triton
) -> None:
    source = "{% for c in messages[0].content %}({{ c.type }}){% endfor %}{{ level }}"

    shown = await asked(
        provider,
        triton,
        **a_chat(text("a"), image(data_url(PNG))),
        chat_template=source,
        chat_template_kwargs={"level": "low"},
    )

    assert "(text)(image)low" == shown["prompt"]
    assert digests(PNG) == shown["digests"]


@pytest.mark.parametrize(
    "source",
    ["{{ 'x' * 10 ** 10 }}", "{% for a in range(99999) %}{% for b in range(99999) %}"
     "{% endfor %}{% endfor %}", "{% if %}", "x" * 70_000],
    ids=["memory", "time", "syntax", "size"],
)  # fmt: skip
async def test_bad_template_of_a_client_is_its_own_fault(
    provider: TritonProvider, triton: Triton, source: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        await run(provider, a_call(), a_body(**a_chat(text()), chat_template=source))

    assert (Failure.REJECTED, 400, "chat_template") == (
        caught.value.failure,
        caught.value.status,
        caught.value.param,
    )
    assert "next" == (await asked(provider, triton, **a_chat(text("next"))))["prompt"]
