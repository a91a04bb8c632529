"""Vendors in the catalogue file: what they are by default, what is adjusted, what is refused."""

import pytest

from kit.yaml_lines import YamlError
from services.router.catalog import Deployment, DeploymentType
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.catalog_file import parse
from services.router.defaults import default_catalogue
from services.router.providers.openai.profiles import PROFILES, VENDORS
from services.router.vendor_entries import VendorEntry

FILE = """\
catalogue:
  providers:
    one: {{kind: {kind}, api_key: sk-x{provider}}}
  models:
    m:
      context_length: 8192
      operations: [{operation}]
      deployments:
        - name: d
          provider: one
          upstream_model: m
          price: {{input_usd_per_million: 1, output_usd_per_million: 1}}
          {more}
"""


def parsed(
    kind: str, *, provider: str = "", operation: str = "chat", more: str = ""
) -> tuple[CatalogueFile, Deployment]:
    text = FILE.format(kind=kind, provider=provider, operation=operation, more=more)
    file = parse(text, variables={})
    model = build(file, generation=1).find("m")
    assert model is not None
    return file, model.deployments[0]


@pytest.mark.parametrize("kind", VENDORS)
def test_vendor_needs_a_key_and_nothing_else(kind: str) -> None:
    file, deployment = parsed(kind)

    entry = file.providers["one"]
    assert isinstance(entry, VendorEntry)
    assert (PROFILES[kind].base_url, kind) == (entry.base_url, entry.backend)
    assert ("", 443) != entry.address
    assert entry.has_credentials
    is_external = kind == "openrouter"
    wanted = DeploymentType.EXTERNAL if is_external else DeploymentType.QUOTA
    assert (wanted, kind, kind) == (
        deployment.type,
        deployment.kind,
        deployment.options["engine"],
    )
    assert "sk-x" not in repr(entry)


def test_vendor_may_be_elsewhere_and_be_called_otherwise() -> None:
    file, deployment = parsed(
        "openrouter",
        provider=', base_url: "http://127.0.0.1:9/v1", backend: other, type: quota,'
        " app_url: 'https://a.example', app_title: A, headers: {X-Team: blue}",
    )

    entry = file.providers["one"]
    assert isinstance(entry, VendorEntry)
    assert ("http://127.0.0.1:9/v1", "other") == (entry.base_url, deployment.backend)
    assert DeploymentType.QUOTA is deployment.type
    assert {
        "HTTP-Referer": "https://a.example",
        "X-Title": "A",
        "X-Team": "blue",
    } == entry.all_headers


def test_features_are_the_vendors_as_the_owner_knows_better() -> None:
    _, plain = parsed("xai")
    _, reasons = parsed("xai", more="reasons: true")
    lines = ("reasons: true", "supports: [stop]", "lacks: [tools]")
    _, adjusted = parsed("xai", more="\n          ".join(lines))
    _, known = parsed("hyperbolic", more="supports: [tools]")

    assert {"stop"} <= plain.capabilities
    assert not {"stop", "presence_penalty"} & reasons.capabilities
    assert "yes" == reasons.options["reasons"]
    assert "tools" in known.capabilities
    assert "stop" in adjusted.capabilities
    assert "tools" not in adjusted.capabilities


@pytest.mark.parametrize(
    ("kind", "changes", "part"),
    [
        ("mistral", {"operation": "image"}, "mistral does not serve image"),
        ("deepseek", {"operation": "embedding"}, "deepseek does not serve embedding"),
        ("xai", {"operation": "completion"}, "xai does not serve completion"),
        ("mistral", {"provider": ", app_url: x"}, "only openrouter"),
        ("mistral", {"provider": ", base_url: x"}, "providers.one.base_url"),
        ("mistral", {"provider": ", api_kye: x"}, "providers.one.api_kye"),
        ("mistrel", {}, "providers.one"),
    ],
)
def test_what_a_vendor_has_not_is_refused(kind: str, changes: dict[str, str], part: str) -> None:
    with pytest.raises(YamlError) as caught:
        parsed(kind, **changes)

    assert part in caught.value.message


@pytest.mark.parametrize("more", ["reasons: true", "think_tags: true"])
def test_what_is_said_of_answers_is_for_who_speaks_openai(more: str) -> None:
    text = FILE.format(kind="triton", provider="", operation="chat", more=more)

    with pytest.raises(YamlError) as caught:
        parse(text.replace(", api_key: sk-x", ""), variables={})

    assert "kinds that speak OpenAI" in caught.value.message


def test_starters_are_vendors() -> None:
    file = default_catalogue({"OPENAI_API_KEY": "a", "DEEPSEEK_API_KEY": "b"}, None)

    assert {"openai": "openai", "deepseek": "deepseek"} == {
        name: entry.kind for name, entry in file.providers.items()
    }
