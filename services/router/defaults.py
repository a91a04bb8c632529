"""The catalogue when `turnpike.yaml` names none: the local Triton, and providers that have keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.router.catalog_entries import CatalogueFile


@dataclass(frozen=True, slots=True)
class LocalTriton:
    """The Triton that was started beside this process, serving the tiny model."""

    grpc_address: str
    http_address: str
    tokenizer_config: Path


@dataclass(frozen=True, slots=True)
class Starter:
    """A vendor that is added when its usual variable holds a key; prices are USD per million.

    List prices of the provider, to be checked before they are sold at: `turnpike.yaml` overrides.
    """

    variable: str
    models: tuple[tuple[str, int, str, str], ...]


STARTERS: Final[Mapping[str, Starter]] = {
    "openai": Starter(
        "OPENAI_API_KEY",
        (("gpt-4o-mini", 128_000, "0.15", "0.60"), ("gpt-4o", 128_000, "2.50", "10.00")),
    ),
    "deepseek": Starter(
        "DEEPSEEK_API_KEY",
        (("deepseek-chat", 64_000, "0.27", "1.10"),),
    ),
}
_TINY_PRICE: Final = {"input_usd_per_million": "0.10", "output_usd_per_million": "0.40"}
_TINY_EMBED: Final = {
    "context_length": 2048,
    "prompt_tokens_per_byte_max": "1",
    "operations": ["embedding"],
    "deployments": [
        {
            "name": "tiny-embed-local",
            "provider": "local-triton",
            "upstream_model": "tiny-embed",
            "price": {"input_usd_per_million": "0.02", "output_usd_per_million": "0"},
        }
    ],
}


def default_catalogue(variables: Mapping[str, str], triton: LocalTriton | None) -> CatalogueFile:
    """Return the catalogue of a start without a file."""
    providers: dict[str, object] = {}
    models: dict[str, object] = {}
    if triton is not None:
        providers["local-triton"] = {
            "kind": "triton",
            "grpc_address": triton.grpc_address,
            "http_address": triton.http_address,
        }
        models["tiny-chat"] = _tiny(triton.tokenizer_config)
        models["tiny-embed"] = _TINY_EMBED
    for name, starter in STARTERS.items():
        if key := variables.get(starter.variable):
            providers[name] = {"kind": name, "api_key": key}
            models |= {entry[0]: _started(name, entry) for entry in starter.models}
    return CatalogueFile.model_validate({"providers": providers, "models": models})


def _tiny(tokenizer_config: Path) -> dict[str, object]:
    return {
        "context_length": 4096,
        "default_max_tokens": 256,
        "prompt_tokens_per_byte_max": "1",
        "operations": ["chat", "completion"],
        "deployments": [
            {
                "name": "tiny-chat-local",
                "provider": "local-triton",
                "upstream_model": "tiny-chat",
                "price": _TINY_PRICE,
                "chat_template": str(tokenizer_config),
            }
        ],
    }


def _started(provider: str, entry: tuple[str, int, str, str]) -> dict[str, object]:
    model, context_length, input_usd, output_usd = entry
    return {
        "owner": provider,
        "context_length": context_length,
        "deployments": [
            {
                "name": f"{model}-{provider}",
                "provider": provider,
                "upstream_model": model,
                "price": {"input_usd_per_million": input_usd, "output_usd_per_million": output_usd},
            }
        ],
    }
