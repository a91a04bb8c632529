"""A site for the rows: one well-behaved upstream, behind engines that can more or less."""

from typing import Any, Final

from services.router.capabilities import FEATURES
from tests.fakes.openai_model import OpenAiModel
from tests.fixtures.catalogues import PRICE

FREE: Final = {"input_usd_per_million": "0", "output_usd_per_million": "0"}


def catalogue(model: OpenAiModel) -> dict[str, Any]:
    """Return models on one upstream: `sea`, `sea-vllm`, `bare` (nothing beyond text), and more."""

    def entry(name: str, provider: str, **more: Any) -> dict[str, Any]:
        deployment = {
            "name": f"{name}-here",
            "provider": provider,
            "upstream_model": "upstream-sea",
            "price": PRICE,
            **more,
        }
        return {"context_length": 8192, "default_max_tokens": 256, "deployments": [deployment]}

    def provider(**more: Any) -> dict[str, Any]:
        return {"kind": "openai_compat", "base_url": model.base_url, "backend": "fake", **more}

    return {
        "providers": {
            "open": provider(),
            "vllm": provider(engine="vllm"),
            "far": provider(type="external"),
        },
        "models": {
            "sea": {**entry("sea", "open", adapters=["salt"]), "aliases": ["sea-1"]},
            "sea-vllm": entry("sea-vllm", "vllm"),
            "bare": entry("bare", "open", lacks=sorted(FEATURES)),
            "few": entry("few", "open", lacks=["top_logprobs>5"]),
            "far": entry("far", "far"),
            "free": entry("free", "open", price=FREE),
        },
        "functions": {
            "assistant": {"model": "sea", "defaults": {"temperature": 0.5}},
        },
    }
