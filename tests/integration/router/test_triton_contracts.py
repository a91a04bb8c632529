"""Every contract but the vLLM backend's on a real Triton: one suite over both transports."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from services.router.constraints import constraint_of
from services.router.providers.port import Failure
from services.router.providers.triton.contract import LoraSource
from services.router.providers.triton.contracts import ContractName, ContractWish
from services.router.providers.triton.custom import ChatTensors
from services.router.providers.triton.reader import OutputNames
from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import (
    Open,
    Outcome,
    Transport,
    a_body,
    a_call,
    eventually,
    failure_of,
    opener,
    run,
    stream,
)
from turnpike.type.v1 import usage_pb2

pytestmark = pytest.mark.timeout(180)
CUSTOM = ContractWish(
    ContractName.CUSTOM,
    tensors=ChatTensors(
        text="question",
        max_tokens="limit",
        parameters={"temperature": "heat"},
        outputs=OutputNames(
            text="reply", prompt_tokens="asked", completion_tokens="made", are_totals=True
        ),
    ),
)
CONTRACTS: Mapping[str, Mapping[str, Any]] = {
    "tiny-trtllm": {},
    "tiny-trtllm-paced": {},
    "tiny-llmapi": {},
    "tiny-llmapi-whole": {},
    "tiny-custom": {"contract": CUSTOM},
}
UPSTREAM = usage_pb2.USAGE_SOURCE_UPSTREAM
ESTIMATED = usage_pb2.USAGE_SOURCE_ESTIMATED


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def open_model(triton: Triton, transport: Transport) -> Open:
    return opener(triton, transport)


async def answered(open_model: Open, model: str, *, max_tokens: int, **fields: Any) -> Outcome:
    """Return an answer that came as a stream and was also given whole."""
    async with open_model(model, **CONTRACTS.get(model, {})) as provider:
        call, body = a_call(max_tokens=max_tokens), a_body(**fields)
        streamed = await run(provider, call, body)
        plain = await run(provider, call._replace(is_streaming=False), body)
    assert streamed.text == plain.text
    assert reason(streamed) == reason(plain)
    return streamed


def reason(outcome: Outcome) -> str:
    return outcome.batches[-1].finish.finish_reason


async def reference(open_model: Open, *, max_tokens: int, **fields: Any) -> Outcome:
    return await answered(open_model, "tiny-chat", max_tokens=max_tokens, **fields)


@pytest.mark.parametrize("model", list(CONTRACTS))
async def test_every_contract_says_what_the_engine_says(open_model: Open, model: str) -> None:
    expected = await reference(open_model, max_tokens=30, temperature=0)

    found = await answered(open_model, model, max_tokens=30, temperature=0)

    assert expected.text == found.text
    assert reason(expected) == reason(found)


@pytest.mark.parametrize("model", ["tiny-trtllm", "tiny-llmapi"])
async def test_seed_makes_an_answer_repeatable_and_no_seed_needs_no_input(
    open_model: Open, model: str
) -> None:
    texts = [
        (await answered(open_model, model, max_tokens=25, seed=seed, temperature=1.5)).text
        for seed in (7, 7, 8)
    ]
    expected = await reference(open_model, max_tokens=25, seed=7, temperature=1.5)

    assert texts[0] == texts[1] == expected.text != texts[2]


@pytest.mark.parametrize("model", ["tiny-trtllm", "tiny-trtllm-paced", "tiny-custom"])
async def test_counts_are_the_models_own(open_model: Open, model: str) -> None:
    expected = await reference(open_model, max_tokens=12, temperature=0)

    found = await answered(open_model, model, max_tokens=12, temperature=0)

    usage = found.batches[-1].finish.usage
    assert expected.batches[-1].finish.usage == usage
    assert (UPSTREAM, 12) == (usage.source, usage.completion_token_count)
    totals = [batch.running_usage.completion_token_count for batch in found.batches]
    assert sorted(totals) == totals


async def test_contract_without_counts_is_estimated_by_its_pieces(open_model: Open) -> None:
    found = await answered(open_model, "tiny-llmapi", max_tokens=12, temperature=0)

    usage = found.batches[-1].finish.usage
    pieces = sum(batch.content_event_count for batch in found.batches)
    assert ESTIMATED == usage.source
    assert 1 <= usage.completion_token_count == pieces <= 12
    assert "usage" not in msgspec.json.decode(found.batches[-1].finish.usage_json or b"{}")


@pytest.mark.parametrize("model", list(CONTRACTS))
async def test_stop_string_ends_an_answer_and_is_not_shown(open_model: Open, model: str) -> None:
    whole = await answered(open_model, model, max_tokens=60, temperature=0)
    first, second = whole.text.split()[2:4]
    stop = f"{first[-1]} {second[:2]}"

    cut = await answered(open_model, model, max_tokens=60, temperature=0, stop=["#none", stop])

    assert whole.text[: whole.text.index(stop)] == cut.text
    assert "stop" == reason(cut)


async def test_stop_string_stays_when_it_was_asked_for(open_model: Open) -> None:
    whole = await answered(open_model, "tiny-trtllm", max_tokens=60, temperature=0)
    stop = whole.text.split()[3]

    kept = await answered(
        open_model,
        "tiny-trtllm",
        max_tokens=60,
        temperature=0,
        stop=stop,
        include_stop_str_in_output=True,
    )

    assert whole.text[: whole.text.index(stop) + len(stop)] == kept.text


@pytest.mark.parametrize("model", list(CONTRACTS))
async def test_bound_ends_an_answer_for_its_length(open_model: Open, model: str) -> None:
    found = await answered(open_model, model, max_tokens=3, temperature=0)

    assert "length" == reason(found)


@pytest.mark.parametrize("model", list(CONTRACTS))
async def test_text_completion_runs_a_raw_prompt(open_model: Open, model: str) -> None:
    async with open_model(model, **CONTRACTS[model]) as provider:
        call = a_call(operation=1, max_tokens=2, is_streaming=False)
        outcome = await run(provider, call, a_body(prompt="Why is", echo=True, temperature=0))

    choice = msgspec.json.decode(outcome.batches[-1].completion)["choices"][0]
    assert choice["text"].startswith("Why is")
    assert "length" == choice["finish_reason"]


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_pipeline_stops_generating_when_the_iterator_is_closed(
    open_model: Open, triton: Triton, transport: Transport, is_streaming: bool
) -> None:
    seed = 5000 + 2 * is_streaming + (transport == "grpc")
    async with open_model("tiny-trtllm-paced") as provider:
        call = a_call(max_tokens=3000, is_streaming=is_streaming)
        body = a_body(seed=seed, min_tokens=3000)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(run(provider, call, body))
            await eventually(lambda: triton.journal(seed, "tiny-trtllm-paced")[0] >= 3)
            reader.cancel()
        await eventually(lambda: triton.journal(seed, "tiny-trtllm-paced")[1])

    assert triton.journal(seed, "tiny-trtllm-paced")[0] < 1500


async def test_model_that_goes_on_behind_a_stop_string_is_cancelled(
    open_model: Open, triton: Triton
) -> None:
    async with open_model("tiny-custom", contract=CUSTOM) as provider:
        call, body = a_call(max_tokens=3500), a_body(temperature=2, stop=[" the"])
        async with aclosing(stream(provider, call, body)) as batches:
            last = [batch async for batch in batches][-1]

    assert "stop" == last.finish.finish_reason
    assert last.finish.usage.completion_token_count < 3500


@pytest.mark.parametrize("model", ["tiny-trtllm", "tiny-llmapi"])
async def test_error_of_a_contract_is_told_apart_and_tells_nothing(
    open_model: Open, model: str
) -> None:
    async with open_model(model) as provider:
        bad, _ = await failure_of(provider, a_call(), a_body(temperature=-1))
        long, batches = await failure_of(provider, a_call(), a_body("salt " * 5000))
        after = await run(provider, a_call(max_tokens=3), a_body(temperature=0))

    assert (Failure.REJECTED, "temperature") == (bad.failure, bad.param)
    assert Failure.CONTEXT_LENGTH is long.failure
    assert [] == batches
    assert after.text


async def test_contract_that_the_model_has_not_is_no_route(open_model: Open) -> None:
    wish = ContractWish(ContractName.VLLM)
    async with open_model("tiny-trtllm", contract=wish) as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

    assert Failure.INVALID_RESPONSE is error.failure


# Adapters, constraints.


@pytest.mark.parametrize(
    ("model", "sources"),
    [
        ("tiny-chat", {}),
        ("tiny-trtllm", {"loud": LoraSource(7)}),
        ("tiny-llmapi", {"loud": LoraSource(3, "/adapters/loud")}),
    ],
)
async def test_adapter_answers_in_its_own_way(
    open_model: Open, model: str, sources: dict[str, LoraSource]
) -> None:
    base = await answered(open_model, model, max_tokens=20, temperature=0)
    async with open_model(model, contract=ContractWish(adapters=sources)) as provider:
        call = a_call(max_tokens=20, adapter="loud")
        outcome = await run(provider, call, a_body(temperature=0))

    assert base.text.upper() == outcome.text != base.text


async def test_adapter_that_a_server_does_not_have_is_no_answer_of_the_base_model(
    open_model: Open,
) -> None:
    wish = ContractWish(adapters={"other": LoraSource(8)})
    async with open_model("tiny-trtllm", contract=wish) as provider:
        error, batches = await failure_of(provider, a_call(adapter="other"), a_body())

    assert Failure.INVALID_RESPONSE is error.failure
    assert [] == batches


async def test_pipeline_keeps_to_a_choice_and_is_no_route_for_what_it_does_not_know(
    open_model: Open,
) -> None:
    choices = ["salt comes from rock", "a.b|c", "yes"]
    async with open_model("tiny-trtllm") as provider:
        body = a_body(guided_choice=choices, seed=3, temperature=2)
        call = a_call(constraint=constraint_of(body), max_tokens=60)
        outcome = await run(provider, call, body)
        other = a_body(response_format={"type": "json_object"})
        error, _ = await failure_of(provider, a_call(constraint=constraint_of(other)), other)

    assert outcome.text in choices
    assert (Failure.UNSUPPORTED, "response_format") == (error.failure, error.param)
