"""Every vendor that speaks OpenAI: what it is told, what becomes of its answer, what it refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from services.router.providers.openai.compat import OpenAiCompatProvider
from services.router.providers.openai.profiles import PROFILES
from services.router.providers.openai.vendor import VendorProvider
from services.router.providers.port import Failure, ProviderError
from tests.fakes.openai_calls import eventually
from tests.fakes.vendor_basics import SECRET
from tests.fakes.vendor_manners import MANNERS
from tests.fixtures.vendors import Vendor, open_deployment
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

TEXT: Final = router_pb2.OPERATION_COMPLETION
EMBEDDING: Final = router_pb2.OPERATION_EMBEDDING
VENDORS: Final = sorted(MANNERS)
SEA: Final = "The sea is salty because rivers carry salt."
TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "clock")
]
PICTURE: Final = "data:image/png;base64,iVBORw0KGgo="
PLACE: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NAMED: Final = {"name": "place", "schema": PLACE, "strict": True}
both = pytest.mark.parametrize("is_streaming", [True, False], ids=["streamed", "whole"])


@pytest.fixture(params=VENDORS)
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    async with open_deployment(request.param) as opened:
        yield opened


def can(vendor: Vendor, *features: str) -> bool:
    return vendor.deployment.capabilities.issuperset(features)


def check_usage(vendor: Vendor, usage: usage_pb2.TokenUsage) -> None:
    told = vendor.upstream.usages[-1]
    assert usage_pb2.USAGE_SOURCE_UPSTREAM == usage.source
    assert (
        told["prompt_tokens"],
        told["completion_tokens"],
        told["prompt_tokens_details"]["cached_tokens"],
    ) == (
        usage.prompt_token_count,
        usage.completion_token_count,
        usage.cached_prompt_token_count,
    )


async def failure(vendor: Vendor, prompt: str, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await vendor.ask(prompt, **options)
    assert SECRET not in caught.value.message
    return caught.value


def test_a_plain_vendor_is_served_by_the_bare_transport() -> None:
    async def kind_of(name: str, **more: Any) -> type:
        async with open_deployment(name, **more) as opened:
            return type(opened.provider)

    async def kinds() -> list[type]:
        return [
            await kind_of("openai"),
            await kind_of("openai", reasons=True),
            await kind_of("mistral"),
        ]

    assert [OpenAiCompatProvider, VendorProvider, VendorProvider] == asyncio.run(kinds())


@both
@pytest.mark.parametrize("split", [0, 1, 7])
async def test_text_and_usage_are_the_vendors(
    vendor: Vendor, split: int, *, is_streaming: bool
) -> None:
    vendor.upstream.split = split

    answered = await vendor.ask(is_streaming=is_streaming)

    assert SEA == answered.message["content"]
    assert "stop" == answered.finish.finish_reason
    check_usage(vendor, answered.finish.usage)
    assert [] == answered.ignored
    shown = json.loads(answered.finish.usage_json)
    assert shown.keys() <= {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
    assert shown["total_tokens"] == shown["prompt_tokens"] + shown["completion_tokens"]


@both
async def test_thoughts_are_reasoning_content_and_counted_once(
    vendor: Vendor, *, is_streaming: bool
) -> None:
    answered = await vendor.ask("think", is_streaming=is_streaming)

    message = answered.message
    assert ("Let me think.", SEA) == (message["reasoning_content"], message["content"])
    assert "reasoning" not in message
    check_usage(vendor, answered.finish.usage)
    if vendor.upstream.name != "mistral":
        assert 3 == answered.finish.usage.reasoning_token_count


@both
@pytest.mark.parametrize("is_parallel", [True, False], ids=["parallel", "single"])
async def test_tools_are_called_with_their_arguments(
    vendor: Vendor, *, is_streaming: bool, is_parallel: bool
) -> None:
    tools = TOOLS if is_parallel else TOOLS[:1]
    if not can(vendor, "tools"):
        refused = await failure(vendor, "go", tools=tools)
        assert (Failure.UNSUPPORTED, "tools") == (refused.failure, refused.param)
        return

    answered = await vendor.ask(
        "go", is_streaming=is_streaming, tools=tools, tool_choice="required"
    )

    calls = answered.message["tool_calls"]
    assert [tool["function"]["name"] for tool in tools] == [c["function"]["name"] for c in calls]
    assert [{"city": "Paris"}] * len(tools) == [
        json.loads(call["function"]["arguments"]) for call in calls
    ]
    assert len(tools) == len({call["id"] for call in calls})
    assert "tool_calls" == answered.finish.finish_reason
    check_usage(vendor, answered.finish.usage)


async def test_a_tool_loop_goes_on(vendor: Vendor) -> None:
    if not can(vendor, "tools"):
        return
    call_id = "call_0123456789abcdef"
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I should look.",
            "tool_calls": [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call_id, "content": "sun"},
    ]

    answered = await vendor.ask(tools=TOOLS, messages=messages)

    assert SEA == answered.message["content"]
    told = vendor.sent["messages"]
    assert told[2]["tool_calls"][0]["id"] == told[3]["tool_call_id"]
    said = {"deepseek": "reasoning_content", "openrouter": "reasoning"}.get(vendor.upstream.name)
    if said:
        assert "I should look." == told[2][said]


async def test_images_reach_who_can_see(vendor: Vendor) -> None:
    if not can(vendor, "image_url"):
        assert "deepseek" == vendor.upstream.name
        return
    image = {"type": "image_url", "image_url": {"url": PICTURE}}
    content = [{"type": "text", "text": "what is it?"}, image]

    answered = await vendor.ask(messages=[{"role": "user", "content": content}])

    assert content == vendor.sent["messages"][0]["content"]
    assert SEA == answered.message["content"]


@both
async def test_answers_keep_to_a_schema_where_the_vendor_holds_them_to_it(
    vendor: Vendor, *, is_streaming: bool
) -> None:
    wanted = {"type": "json_schema", "json_schema": NAMED}
    if vendor.upstream.name == "deepseek":
        refused = await failure(vendor, "a place", response_format=wanted)
        assert (Failure.UNSUPPORTED, "response_format") == (refused.failure, refused.param)
        wanted = {"type": "json_object"}

    answered = await vendor.ask("a place", is_streaming=is_streaming, response_format=wanted)

    assert isinstance(json.loads(answered.message["content"]), dict)


@both
async def test_a_choice_is_one_of_them(vendor: Vendor, *, is_streaming: bool) -> None:
    if not can(vendor, "guided_choice"):
        assert "deepseek" == vendor.upstream.name
        return

    answered = await vendor.ask("which?", is_streaming=is_streaming, guided_choice=["a.b", "c|d"])

    assert "a.b" == answered.message["content"]


@pytest.mark.parametrize(
    ("prompt", "failures"),
    [
        ("error before", {Failure.UNAVAILABLE}),
        ("error late", {Failure.UNAVAILABLE}),
        ("cut", {Failure.INCOMPLETE}),
        ("junk", {Failure.INVALID_RESPONSE}),
        ("broken off", {Failure.INCOMPLETE, Failure.INVALID_RESPONSE}),
    ],
)
async def test_what_goes_wrong_is_called_what_it_is(
    vendor: Vendor, prompt: str, failures: set[Failure]
) -> None:
    found = await failure(vendor, prompt)

    assert found.failure in failures


@pytest.mark.parametrize(
    ("prompt", "failures"),
    [
        ("cut", {Failure.INCOMPLETE}),
        ("junk", {Failure.INVALID_RESPONSE}),
        ("broken off", {Failure.INCOMPLETE, Failure.INVALID_RESPONSE}),
    ],
)
async def test_what_goes_wrong_in_a_whole_answer_is_called_what_it_is(
    vendor: Vendor, prompt: str, failures: set[Failure]
) -> None:
    found = await failure(vendor, prompt, is_streaming=False)

    assert found.failure in failures


@pytest.mark.parametrize("name", VENDORS)
async def test_a_key_that_is_refused_is_our_fault_alone(name: str) -> None:
    async with open_deployment(name, api_key="sk-stale") as vendor:
        found = await failure(vendor, "hello")

    assert (Failure.CREDENTIALS, "") == (found.failure, found.param)
    assert found.is_retryable


async def test_a_caller_that_goes_away_ends_the_vendors_work(vendor: Vendor) -> None:
    task = asyncio.ensure_future(vendor.ask("slow"))
    await eventually(lambda: bool(vendor.upstream.seen))

    task.cancel()

    await eventually(lambda: vendor.upstream.is_aborted)


async def test_vectors_come_in_the_dimensions_that_were_asked_for(vendor: Vendor) -> None:
    name = vendor.upstream.name
    if "embedding" not in PROFILES[name].operations:
        with pytest.raises(ValueError, match="does not serve embedding"):
            async with open_deployment(name, operation=EMBEDDING):
                pass
        return
    fields: dict[str, Any] = {"dimensions": 3} if can(vendor, "dimensions") else {}
    async with open_deployment(name, operation=EMBEDDING) as other:
        answered = await other.ask(operation=EMBEDDING, input=["a", "b"], **fields)

    vectors = [one["embedding"] for one in answered.completion["data"]]
    assert [3 if fields else 4] * 2 == [len(vector) for vector in vectors]
    assert 6 == answered.finish.usage.prompt_token_count


@both
async def test_texts_are_completed_where_the_vendor_does(
    vendor: Vendor, *, is_streaming: bool
) -> None:
    name = vendor.upstream.name
    if "completion" not in PROFILES[name].operations:
        with pytest.raises(ValueError, match="does not serve completion"):
            async with open_deployment(name, operation=TEXT):
                pass
        return
    fields: dict[str, Any] = {"suffix": "}"} if can(vendor, "suffix") else {}
    async with open_deployment(name, operation=TEXT) as other:
        answered = await other.ask("def f() {", is_streaming=is_streaming, operation=TEXT, **fields)
        path, sent = other.upstream.paths[-1], other.sent

    found = answered.chunks if is_streaming else [answered.completion]
    assert SEA == "".join(one["choices"][0]["text"] for one in found)
    assert sent.get("suffix") == fields.get("suffix")
    wanted = {"mistral": "/v1/fim/completions", "deepseek": "/v1/beta/completions"}
    assert wanted.get(name, "/v1/completions") == path
    check_usage(other, answered.finish.usage)


@both
async def test_a_model_that_reasons_is_told_nothing_it_refuses(*, is_streaming: bool) -> None:
    async with open_deployment("openai", reasons=True) as vendor:
        answered = await vendor.ask(
            "think", is_streaming=is_streaming, temperature=1, reasoning_effort="low"
        )
        refused = await failure(vendor, "think", top_p=0.5)

    assert "Let me think." == answered.message["reasoning_content"]
    assert {"max_completion_tokens", "reasoning_effort"} <= vendor.sent.keys()
    assert {"max_tokens", "temperature"}.isdisjoint(vendor.sent)
    assert (Failure.UNSUPPORTED, "top_p") == (refused.failure, refused.param)


@pytest.mark.parametrize("name", ["vllm", "openai", "together"])
async def test_tags_are_read_where_the_deployment_says_so(name: str) -> None:
    async with open_deployment(name, think_tags=True) as vendor:
        assert isinstance(vendor.provider, VendorProvider)

        answered = await vendor.ask()

    assert SEA == answered.message["content"]


async def test_what_is_left_aside_is_told_once(vendor: Vendor) -> None:
    answered = await vendor.ask(store=True, chat_template_kwargs={"x": 1})

    kept: dict[str, list[str]] = {"openai": ["chat_template_kwargs"], "trtllm": ["store"]}
    kept["vllm"] = []
    usual = ["chat_template_kwargs", "store"]
    assert kept.get(vendor.upstream.name, usual) == answered.ignored
