"""The rows of the matrix: how each provider is written down, opened and told what to answer.

A new provider is one more `Provider` here. What it does not offer stands in `refused`, with the
parameter that the refusal names and why; everything else has to be right.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.router.providers.openai.profiles import VENDORS
from tests.fakes.anthropic_upstream import open_anthropic_upstream
from tests.fakes.aws_server import KEY_ID, REGION, SECRET
from tests.fakes.bedrock_upstream import open_bedrock_upstream
from tests.fakes.gcp_accounts import new_key, open_gcp_accounts
from tests.fakes.gemini_upstream import open_gemini_upstream
from tests.fakes.media_upstream import open_media_upstream
from tests.fakes.openai_upstream import open_openai_upstream
from tests.fakes.relay import open_relay
from tests.fakes.sagemaker_upstream import open_sagemaker_upstream
from tests.fakes.vendors import open_vendor
from tests.fixtures.catalogues import TOKENIZER
from tests.fixtures.triton import Triton
from tests.matrix.aws_upstreams import BedrockSpeaker, SageMakerSpeaker
from tests.matrix.cells import CELLS, OPERATIONS, model_of, operation_name
from tests.matrix.http_upstreams import AnthropicSpeaker, GeminiSpeaker, OpenAiSpeaker
from tests.matrix.reply import Upstream
from tests.matrix.triton_upstream import SPOILT, TritonSpeaker
from tests.matrix.vendor_upstreams import VendorSpeaker

Json = dict[str, Any]
CATALOGUE: Final = "catalogue"
"""In the place of a parameter: what refuses is the catalogue, when it is read."""


class Opened(NamedTuple):
    """An upstream and the `providers` of a catalogue over it.

    They are `main`, `media` if it differs, and others by the model that has one of its own.
    """

    upstream: Upstream
    entries: Mapping[str, Json]


class Refused(NamedTuple):
    """Why there is no answer: the parameter that is named, or `CATALOGUE`, and the reason."""

    param: str
    why: str


class Surroundings(NamedTuple):
    """What an upstream may need: a folder of its own, and a Triton to be started when asked for."""

    folder: Path
    triton: Callable[[], Triton]


Open = Callable[[AsyncExitStack, Surroundings], Awaitable[Opened]]


@dataclass(frozen=True, slots=True)
class Provider:
    """One row.

    `model` is the upstream's model; `deployment` has more fields of every deployment, `deployments`
    of those of some cells. `asks` are the fields of some cells in place of the usual. `refused` and
    `ignored` are cells that are not served, the latter with the parameter that is left aside;
    `estimated` are cells whose tokens nobody counts, each with the reason.
    """

    name: str
    open: Open
    model: str = "upstream-small"
    deployment: Mapping[str, Any] = field(default_factory=dict)
    deployments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    asks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)
    ignored: Mapping[str, Refused] = field(default_factory=dict)
    estimated: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The `kind` of its entries, with which its name begins."""
        return self.name.partition(",")[0]


def _openai(engine: str) -> Open:
    async def open_it(stack: AsyncExitStack, around: Surroundings) -> Opened:
        del around
        upstream = await stack.enter_async_context(open_openai_upstream())
        media = await stack.enter_async_context(open_media_upstream())
        usual = {"kind": "openai_compat", "api_key": "${UPSTREAM_KEY}", "engine": engine}
        entries = {
            "main": {**usual, "base_url": upstream.base_url},
            "media": {**usual, "base_url": media.base_url},
        }
        return Opened(OpenAiSpeaker(upstream), entries)

    return open_it


async def _anthropic(stack: AsyncExitStack, around: Surroundings) -> Opened:
    del around
    upstream = await stack.enter_async_context(open_anthropic_upstream())
    entry = {"kind": "anthropic", "base_url": upstream.base_url, "api_key": "${UPSTREAM_KEY}"}
    return Opened(AnthropicSpeaker(upstream), {"main": entry})


async def _ai_studio(stack: AsyncExitStack, around: Surroundings) -> Opened:
    del around
    upstream = await stack.enter_async_context(open_gemini_upstream())
    entry = {
        "kind": "google_ai_studio",
        "base_url": upstream.base_url,
        "api_key": "${UPSTREAM_KEY}",
    }
    return Opened(GeminiSpeaker(upstream), {"main": entry})


def _vertex(form: str) -> Open:
    async def open_it(stack: AsyncExitStack, around: Surroundings) -> Opened:
        accounts = await stack.enter_async_context(open_gcp_accounts(new_key()))
        upstream: Upstream
        if form == "gemini":
            gemini = await stack.enter_async_context(open_gemini_upstream())
            upstream, origin = GeminiSpeaker(gemini), gemini.origin
        elif form == "claude":
            claude = await stack.enter_async_context(open_anthropic_upstream())
            upstream, origin = AnthropicSpeaker(claude), claude.base_url
        else:
            openai = await stack.enter_async_context(open_openai_upstream())
            upstream, origin = OpenAiSpeaker(openai), openai.base_url.removesuffix("/v1")
        entry = {
            "kind": "vertex",
            "project": "my-project",
            "location": "europe-west1",
            "base_url": f"{origin}/v1",
            "credentials": str(accounts.key_file(around.folder)),
        }
        return Opened(upstream, {"main": entry})

    return open_it


_KEYS: Final = {"region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET}


async def _bedrock(stack: AsyncExitStack, around: Surroundings) -> Opened:
    del around
    upstream = await stack.enter_async_context(open_bedrock_upstream())
    entry = {"kind": "bedrock", "base_url": upstream.base_url, **_KEYS, "thinking": "adaptive"}
    return Opened(BedrockSpeaker(upstream), {"main": entry})


def _sagemaker(*, is_embedder: bool = False) -> Open:
    async def open_it(stack: AsyncExitStack, around: Surroundings) -> Opened:
        del around
        upstream = await stack.enter_async_context(open_sagemaker_upstream())
        entry = {"kind": "sagemaker", "base_url": upstream.base_url, **_KEYS}
        return Opened(SageMakerSpeaker(upstream, is_embedder), {"main": entry})

    return open_it


def _vendor(name: str, *, kind: str = "") -> Open:
    async def open_it(stack: AsyncExitStack, around: Surroundings) -> Opened:
        del around
        upstream = await stack.enter_async_context(open_vendor(name))
        entry = {"kind": kind or name, "base_url": upstream.base_url, "api_key": "sk-vendor"}
        if kind:
            entry["engine"] = name
        return Opened(VendorSpeaker(upstream), {"main": entry})

    return open_it


def _triton(transport: str, model: str) -> Open:
    async def open_it(stack: AsyncExitStack, around: Surroundings) -> Opened:
        triton = around.triton()
        address = triton.grpc_address if transport == "grpc" else triton.http_address

        def entry(at: str) -> Json:
            return {"kind": "triton", f"{transport}_address": at, "transport": transport}

        spoilt = [model_of(name, is_streaming=mode) for name in SPOILT for mode in (True, False)]
        relays = {name: await stack.enter_async_context(open_relay(address)) for name in spoilt}
        entries = {name: entry(relay.address) for name, relay in relays.items()}
        return Opened(TritonSpeaker(triton, model, relays), {"main": entry(address), **entries})

    return open_it


def _refused(param: str, why: str, *names: str) -> dict[str, Refused]:
    return dict.fromkeys(names, Refused(param, why))


def _serves(*served: str, why: str) -> dict[str, Refused]:
    """Return the operations other than these, which the catalogue refuses."""
    missing = [operation_name(name) for name in OPERATIONS if name not in served]
    return _refused(CATALOGUE, why, *missing)


_TEXTS: Final = ("completion", "embedding")
_REASONS: Final[dict[str, Json]] = {"reasoning": {"reasons": True}}
_PACED, _TRTLLM = "tiny-paced", "tiny-trtllm-paced"
_TRITON_REFUSES: Final = {
    **_refused("tools", "the tensors have no place for tools", "tool call", "parallel tools"),
    **_serves(*_TEXTS, why="no contract for images and sound"),
}
_TRITON: Final[dict[str, Any]] = {
    "deployment": {"chat_template": str(TOKENIZER)},
    "deployments": {
        "image": {"upstream_model": "tiny-picture", "image_placeholder": "<image>"},
        "operation embedding": {
            "upstream_model": "tiny-embed",
            "tensors": {},
            "chat_template": None,
        },
    },
    "asks": {"structured": {}},
    "refused": _TRITON_REFUSES,
    "ignored": _refused("reasoning_effort", "the tensors carry text alone", "reasoning"),
}
_GOOGLE: Final = _serves("embedding", why="Gemini's API has chats and vectors here")
_CHAT_ONLY: Final = _serves(why="an API of chats alone")
_CLOUD_TEXTS: Final = _serves(*_TEXTS, why="the containers serve text and vectors")
_VENDOR_REFUSES: Final[Mapping[str, Mapping[str, Refused]]] = {
    "openai": {},
    "together": {},
    "deepseek": {
        **_serves("completion", why="DeepSeek has chats and text completions"),
        **_refused("messages", "DeepSeek takes no images", "image"),
        **_refused("response_format", "DeepSeek knows JSON, but no schemas", "structured"),
    },
    "fireworks": _serves(*_TEXTS, why="Fireworks is asked for text and vectors alone"),
    "mistral": _serves(*_TEXTS, why="Mistral is asked for text and vectors alone"),
    "hyperbolic": {
        **_serves("completion", why="Hyperbolic has chats and text completions"),
        **_refused("tools", "Hyperbolic takes no tools", "tool call", "parallel tools"),
    },
    "xai": _serves("image", why="xAI has chats and images"),
    "openrouter": _serves(*_TEXTS, why="OpenRouter is asked for text and vectors alone"),
}
_VECTORS_ALONE: Final = {
    **_refused(CATALOGUE, "its container makes vectors", *(cell.name for cell in CELLS)),
    **_serves("embedding", why="its container makes vectors"),
}

PROVIDERS: Final = (
    Provider("openai_compat", _openai("openai")),
    Provider("openai_compat, vllm", _openai("vllm")),
    Provider("openai_compat, sglang", _openai("sglang")),
    Provider(
        "openai_compat, trtllm",
        _vendor("trtllm", kind="openai_compat"),
        deployments=_REASONS,
        refused=_serves(*_TEXTS, why="TensorRT-LLM serves text and vectors"),
    ),
    *(
        Provider(name, _vendor(name), deployments=_REASONS, refused=_VENDOR_REFUSES[name])
        for name in VENDORS
    ),
    Provider("anthropic", _anthropic, refused=_CHAT_ONLY),
    Provider("google_ai_studio", _ai_studio, "gemini-3-flash-preview", refused=_GOOGLE),
    Provider("vertex, Gemini", _vertex("gemini"), "google/gemini-3-flash-preview", refused=_GOOGLE),
    Provider("vertex, Claude", _vertex("claude"), "anthropic/claude-fake", refused=_CHAT_ONLY),
    Provider(
        "vertex, OpenAI's form",
        _vertex("openai"),
        "openai/meta/llama-4-scout-maas",
        refused=_CHAT_ONLY,
    ),
    Provider("bedrock", _bedrock, "eu.anthropic.claude-x-v1:0", refused=_CHAT_ONLY),
    Provider("sagemaker", _sagemaker(), refused=_CLOUD_TEXTS),
    Provider(
        "sagemaker, hf-embed",
        _sagemaker(is_embedder=True),
        deployment={"body": "hf-embed"},
        refused=_VECTORS_ALONE,
        estimated={"operation embedding": "its container counts no tokens, so half their bound is"},
    ),
    Provider("triton, vLLM's tensors, gRPC", _triton("grpc", _PACED), _PACED, **_TRITON),
    Provider("triton, vLLM's tensors, HTTP", _triton("http", _PACED), _PACED, **_TRITON),
    Provider(
        "triton, TensorRT-LLM's pipeline",
        _triton("grpc", _TRTLLM),
        _TRTLLM,
        **{
            **_TRITON,
            "deployment": {"chat_template": str(TOKENIZER), "contract": "trtllm_bls"},
            "deployments": {},
            "refused": {
                **_TRITON_REFUSES,
                **_refused("messages", "the tensors have no place for images", "image"),
                **_serves("completion", why="a language model makes no vectors"),
            },
        },
    ),
)
