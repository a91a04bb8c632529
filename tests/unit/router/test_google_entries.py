"""Google's providers in the catalogue."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.router.capabilities import BY_ENGINE
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.google_entries import GoogleAiStudioEntry, VertexEntry

PRICE = {"input_usd_per_million": "1", "output_usd_per_million": "2"}
STUDIO = {"kind": "google_ai_studio", "api_key": "k"}
VERTEX = {"kind": "vertex", "project": "my-project", "location": "europe-west1"}


def file_of(provider: dict[str, Any], upstream_model: str, **model: Any) -> CatalogueFile:
    deployment = {
        "name": "d",
        "provider": "p",
        "upstream_model": upstream_model,
        "price": PRICE,
    }
    entry = {"context_length": 1000, "deployments": [deployment], **model}
    return CatalogueFile.model_validate({"providers": {"p": provider}, "models": {"m": entry}})


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("europe-west1", "europe-west1-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_host_follows_from_the_location(location: str, host: str) -> None:
    entry = VertexEntry.model_validate({**VERTEX, "location": location})

    assert (host, 443) == entry.address
    assert (
        f"https://{host}/v1/projects/my-project/locations/{location}" == entry.base_url_of_project
    )


def test_base_url_takes_the_place_of_the_host() -> None:
    entry = VertexEntry.model_validate({**VERTEX, "base_url": "http://127.0.0.1:9/v1/"})

    assert ("127.0.0.1", 9) == entry.address
    assert entry.base_url_of_project.startswith("http://127.0.0.1:9/v1/projects/")


@pytest.mark.parametrize(
    ("provider", "upstream_model", "engine"),
    [
        (STUDIO, "gemini-2.5-pro", "gemini"),
        (VERTEX, "gemini-2.5-pro", "gemini"),
        (VERTEX, "google/gemini-2.5-pro", "gemini"),
        (VERTEX, "endpoints/12", "gemini"),
        (VERTEX, "openai/meta/llama-4-scout-maas", "openai"),
        (VERTEX, "anthropic/claude-opus-4-6", "anthropic"),
    ],
)
def test_engine_follows_from_the_model(
    provider: dict[str, Any], upstream_model: str, engine: str
) -> None:
    deployment = build(file_of(provider, upstream_model), generation=1).models[0].deployments[0]

    assert engine == deployment.options["engine"]
    assert BY_ENGINE[engine] == deployment.capabilities
    thinking = {"gemini": "auto", "anthropic": "adaptive"}
    assert thinking.get(engine) == deployment.options.get("thinking")


@pytest.mark.parametrize(
    ("provider", "upstream_model", "operations", "why"),
    [
        (VERTEX, "anthropic/claude-x", ["embedding"], "no embedding"),
        (VERTEX, "meta/llama", ["chat"], "begins with google/"),
        (VERTEX, "openai/x", ["embedding"], "no embedding"),
        (STUDIO, "imagen", ["image"], "no image"),
        (STUDIO, "gemini-2.5-pro", ["chat", "completion"], "no completion"),
    ],
)
def test_what_is_not_served_is_refused_at_the_start(
    provider: dict[str, Any], upstream_model: str, operations: list[str], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        file_of(provider, upstream_model, operations=operations)


def test_embeddings_are_served() -> None:
    for provider in (STUDIO, VERTEX):
        file_of(provider, "gemini-embedding-001", operations=["embedding"])


def test_credentials_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    entry = VertexEntry.model_validate({**VERTEX, "credentials": str(path)})
    without_key = GoogleAiStudioEntry(kind="google_ai_studio")

    assert not entry.has_credentials
    assert not without_key.has_credentials
    path.write_text("{}")
    assert entry.has_credentials
    assert VertexEntry.model_validate(VERTEX).has_credentials
    assert ("generativelanguage.googleapis.com", 443) == without_key.address


def test_key_is_not_shown() -> None:
    entry = GoogleAiStudioEntry.model_validate({**STUDIO, "api_key": "AIza-secret"})

    assert "secret" not in repr(entry)


def test_version_without_sampling_is_sent_none() -> None:
    with pytest.raises(ValidationError, match="claude_sampling"):
        VertexEntry.model_validate({**VERTEX, "claude_version": "2026-10-21"})
