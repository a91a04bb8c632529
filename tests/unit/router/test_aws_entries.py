"""Providers at AWS in the catalogue: where they are, what they serve, and what they are told."""

from typing import Any

import pytest
from pydantic import ValidationError

from kit.clock import ManualClock
from kit.yaml_lines import YamlError
from services.router.adapters import Parts, opener, wanted
from services.router.aws_entries import SageMakerEntry
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.catalog_file import parse
from services.router.prompt_tools import open_prompt_tools
from services.router.providers.translated import Translated
from services.router.settings import RouterSettings
from services.router.upstream import HttpLimits, open_http_pool

KEYS = {"access_key_id": "AKIDCANARY", "secret_access_key": "canary-secret"}
BEDROCK = {"kind": "bedrock", "region": "eu-west-1", **KEYS}
LENT = {"kind": "bedrock", "region": "eu-west-1"}
SAGEMAKER = {"kind": "sagemaker", "region": "cn-north-1", **KEYS}
PRICE = {"input_usd_per_million": "1", "output_usd_per_million": "2"}


def catalogue(
    provider: dict[str, Any], operations: tuple[str, ...] = ("chat",), **fields: Any
) -> CatalogueFile:
    deployment = {"name": "d", "provider": "p", "upstream_model": "e", "price": PRICE, **fields}
    model = {"context_length": 8192, "operations": operations, "deployments": [deployment]}
    return CatalogueFile.model_validate({"providers": {"p": provider}, "models": {"m": model}})


def test_region_says_where_it_is_unless_told_otherwise() -> None:
    bedrock = catalogue(BEDROCK).providers["p"]
    china = catalogue(SAGEMAKER).providers["p"]
    told = catalogue({**BEDROCK, "base_url": "https://vpce.example:8443/x"}).providers["p"]

    assert ("bedrock-runtime.eu-west-1.amazonaws.com", 443) == bedrock.address
    assert ("runtime.sagemaker.cn-north-1.amazonaws.com.cn", 443) == china.address
    assert ("vpce.example", 8443) == told.address
    assert isinstance(china, SageMakerEntry)
    assert "https://sts.cn-north-1.amazonaws.com.cn" == china.sts
    assert catalogue({**LENT, "identity": "instance"}).providers["p"].has_credentials
    assert not catalogue(LENT).providers["p"].has_credentials


def test_keys_are_hidden_in_every_text_form_and_change_the_fingerprint() -> None:
    file = catalogue(BEDROCK)
    other = catalogue({**BEDROCK, "secret_access_key": "canary-other"})

    assert "canary" not in (repr(file) + str(file) + file.model_dump_json()).lower()
    prints = {
        item.fingerprint for one in (file, other) for item in wanted(one, build(one, generation=1))
    }
    assert 2 == len(prints)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"secret_access_key": ""}, "need each other"),
        ({"access_key_id": ""}, "need each other"),
        ({"access_key_id": "", "secret_access_key": "", "session_token": "t"}, "session_token"),
        ({"api_key": "k"}, "in place of"),
        ({"identity": "instance"}, "in place of"),
        ({"access_key_id": "", "secret_access_key": "", "identity": "container"}, "container_url"),
        ({"access_key_id": "", "secret_access_key": "", "identity": "web_identity"}, "role_arn"),
        ({"region": "Europe"}, "region"),
        ({"base_url": "example"}, "base_url"),
        ({"thinking": "hard"}, "thinking"),
    ],
)
def test_entry_that_makes_no_sense_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        catalogue({**BEDROCK, **change})


@pytest.mark.parametrize(
    ("provider", "operations", "fields", "what"),
    [
        (BEDROCK, ("embedding",), {}, "does not serve embedding"),
        (BEDROCK, ("chat",), {"body": "tgi"}, "only a container"),
        ({"kind": "triton"}, ("chat",), {"body": "openai"}, "only a container"),
        (SAGEMAKER, ("speech",), {}, "does not serve speech"),
        (SAGEMAKER, ("chat",), {"body": "hf-embed"}, "does not serve chat"),
        (SAGEMAKER, ("chat",), {"body": "tgi"}, "chat_template"),
        (SAGEMAKER, ("completion",), {"body": "lmi", "chat_template": "x"}, "serve completion"),
    ],
)
def test_deployment_serves_what_its_container_does(
    provider: dict[str, Any], operations: tuple[str, ...], fields: dict[str, Any], what: str
) -> None:
    if operations == ("speech",):
        fields = {**fields, "price": {"unit": "character", "unit_usd": "1"}}
    with pytest.raises(ValidationError, match=what):
        catalogue(provider, operations, **fields)


@pytest.mark.parametrize(
    ("provider", "fields", "engine", "features"),
    [
        (BEDROCK, {}, "bedrock", {"tools", "file", "guided_choice"}),
        (SAGEMAKER, {}, "openai", {"tools", "logprobs"}),
        ({**SAGEMAKER, "engine": "vllm"}, {"body": "openai"}, "vllm", {"guided_regex"}),
        (SAGEMAKER, {"body": "tgi", "chat_template": "x"}, "tgi", {"top_k"}),
    ],
)
def test_container_decides_what_a_deployment_can(
    provider: dict[str, Any], fields: dict[str, Any], engine: str, features: set[str]
) -> None:
    (model,) = build(catalogue(provider, **fields), generation=1).models
    (deployment,) = model.deployments

    assert engine == deployment.options["engine"]
    assert features <= deployment.capabilities
    assert "n" not in deployment.capabilities or engine in ("openai", "vllm")


def test_options_of_the_entry_reach_its_codec() -> None:
    provider = {**BEDROCK, "thinking": "adaptive", "sampling": "ignored", "family": "nova"}
    (model,) = build(catalogue(provider), generation=1).models

    told = {"thinking": "adaptive", "sampling": "ignored", "family": "nova"}
    assert {"engine": "bedrock", **told} == dict(model.deployments[0].options)


@pytest.mark.parametrize("provider", [BEDROCK, SAGEMAKER, {**BEDROCK, "api_key": "k"}])
async def test_catalogue_opens_what_speaks_to_it(provider: dict[str, Any]) -> None:
    if "api_key" in provider:
        provider = {name: value for name, value in provider.items() if name not in KEYS}
    file = catalogue(provider)
    (item,) = wanted(file, build(file, generation=1))
    settings = RouterSettings()

    async with (
        open_http_pool(HttpLimits()) as pool,
        open_prompt_tools(settings) as tools,
        opener(Parts(settings, pool, ManualClock(), tools))(item) as adapter,
    ):
        assert isinstance(adapter, Translated)


def test_mistake_is_named_by_its_place_also_when_a_provider_is_called_like_its_kind() -> None:
    text = "catalogue:\n  providers:\n    bedrock: {kind: bedrock, region: nowhere}\n"

    with pytest.raises(YamlError, match=r"catalogue\.providers\.bedrock\.region: "):
        parse(text, variables={})
