"""The seeds' own samples, cut out of the kept texts word for word.

Only what a reader replaces is replaced: base URL, key, model names where the seed's are not ours,
and the image that the seed abbreviates.
"""

import re
from pathlib import Path
from typing import Any, Final

from tests.fakes.openai_model import OpenAiModel
from tests.fixtures.catalogues import PRICE

FOLDER: Final = Path(__file__).parents[1] / "golden" / "seeds"
JPEG: Final = (
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJ"
    "DRENDg8QEBEQCgwSExIQEw8QEBD/yQALCAABAAEBAREA/8wABgAQEAX/2gAIAQEAAD8A0s8g/9k="
)
"""A picture of one grey point."""

SPOKEN: Final = "The sea is salty because rivers carry salt."
"""What the upstream of these tests says."""

_CURL: Final = re.compile(r"curl -X POST .*?\n *-d '.*?\n *\}'", re.DOTALL)


def text(number: str) -> str:
    """Return a seed's text."""
    (path,) = FOLDER.glob(f"{number}_*.txt")
    return path.read_text()


def curls(number: str) -> list[str]:
    """Return the curl commands of a seed, in order."""
    return _CURL.findall(text(number))


def json_between(number: str, start: str, end: str) -> str:
    """Return the first JSON object between two headings of a seed."""
    part = text(number).split(start, 1)[1].split(end, 1)[0]
    return part[part.index("{") : part.rindex("}") + 1]


def javascript() -> str:
    """Return the JavaScript of the third seed."""
    part = text("003").split("With Streaming\n", 1)[1]
    return part.split("With Multi-modal", 1)[0].strip()


def python() -> list[str]:
    """Return the Python samples of the fourth seed: request, stream, tools, structured output."""
    page = text("004")
    starts = (
        "from openai import",
        "stream = client",
        "tools = [{",
        "resp = client.chat.completions",
    )
    ends = ("\n\nStreaming\n", "\n\nFunction / tool", "\n\nStructured output\n", "\n\nRequest par")
    found = []
    at = 0
    for start, end in zip(starts, ends, strict=True):
        begin = page.index(start, at)
        at = page.index(end, begin)
        found.append(page[begin:at])
    return found


def catalogue(model: OpenAiModel) -> dict[str, Any]:
    """Return the models that the seeds name, on one upstream."""

    def entry(name: str, aliases: list[str]) -> dict[str, Any]:
        deployment = {"name": f"{name}-here", "provider": "vllm", "upstream_model": "hf/upstream"}
        return {
            "context_length": 32_768,
            "aliases": aliases,
            "deployments": [{**deployment, "price": PRICE}],
        }

    provider = {
        "kind": "openai_compat",
        "base_url": model.base_url,
        "engine": "vllm",
        "backend": "runpod-vllm",
    }
    return {
        "providers": {"vllm": provider},
        "models": {
            "qwen/qwen3.5-9b": entry("qwen9", []),
            "llama-3.1-8b": entry("llama8", []),
            "qwen_3_4b": entry("qwen4", ["qwen3-4b"]),
            "qwen2-7b-vl": entry("qwen-vl", []),
            "vllm_model": entry("vllm-model", []),
            "llama-3.3-70b": entry("llama70", []),
        },
        "functions": {"assistant": {"model": "qwen3-4b"}},
    }
