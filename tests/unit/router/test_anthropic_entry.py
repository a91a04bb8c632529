"""Anthropic in the catalogue: its entry, its features, and the fields that its codec knows."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.openai.fields import KNOWN as GATEWAY_KNOWN
from gateway.openai.fields import TURNPIKE
from services.router.capabilities import capabilities, parameters
from services.router.catalog import Deployment, DeploymentType
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.provider_entries import AnthropicEntry
from services.router.providers.anthropic.fields import KNOWN, SAMPLING
from services.router.providers.anthropic.thinking import MODES


def deployed(supports: list[str] | None = None, **entry: Any) -> Deployment:
    deployment = {
        "name": "claude-1",
        "provider": "anthropic",
        "upstream_model": "claude-opus-5",
        "supports": supports or [],
        "price": {"input_usd_per_million": "3", "output_usd_per_million": "15"},
    }
    file = CatalogueFile.model_validate(
        {
            "providers": {"anthropic": {"kind": "anthropic", **entry}},
            "models": {"claude": {"context_length": 200_000, "deployments": [deployment]}},
        }
    )
    return build(file, generation=1).models[0].deployments[0]


def test_an_entry_is_anthropics_own_api_unless_it_says_otherwise() -> None:
    entry = AnthropicEntry.model_validate({"kind": "anthropic"})
    found = deployed()

    assert entry.address == ("api.anthropic.com", 443)
    assert not entry.has_credentials
    assert (found.kind, found.backend, found.type) == ("anthropic",) * 2 + (DeploymentType.QUOTA,)
    assert dict(found.options) == {
        "engine": "anthropic",
        "thinking": MODES[0],
        "sampling": SAMPLING[0],
    }


def test_an_owner_says_what_a_model_can_do() -> None:
    found = deployed(["response_format>native"], thinking="budget", sampling="ignored")

    assert dict(found.options) == {
        "engine": "anthropic",
        "thinking": "budget",
        "sampling": "ignored",
        "output_format": "native",
    }
    assert [deployed(thinking=mode).options["thinking"] for mode in MODES] == list(MODES)
    assert deployed(version="2026-10-21", sampling="refused").options["sampling"] == "refused"
    assert [deployed(sampling=mode).options["sampling"] for mode in SAMPLING] == list(SAMPLING)


@pytest.mark.parametrize(
    "entry",
    [
        {"version": "a b"},
        {"version": "2026-10-21"},
        {"betas": ["a,b"]},
        {"thinking": "x"},
        {"key": "x"},
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        deployed(**entry)


def test_a_key_is_shown_to_nobody() -> None:
    entry = AnthropicEntry.model_validate({"kind": "anthropic", "api_key": "sk-ant-secret"})

    assert entry.has_credentials
    assert "secret" not in repr(entry)


def test_what_cannot_be_said_is_no_feature() -> None:
    features = capabilities("anthropic")

    assert {"tools", "image_url", "tool_images", "file", "guided_choice", "top_k"} <= features
    lacking = {"n", "logprobs", "seed", "temperature>1", "frequency_penalty", "guided_regex"}
    assert not lacking & features
    assert "response_format" in parameters(features)
    assert not [name for name in parameters(features | {"response_format>native"}) if ">" in name]


def test_every_field_that_the_gateway_lets_through_is_known() -> None:
    assert GATEWAY_KNOWN - TURNPIKE <= KNOWN
