"""Endpoints on SageMaker against a fake on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SystemClock
from services.router.aws_adapters import open_sagemaker
from services.router.aws_entries import SageMakerEntry
from services.router.catalog import Deployment, DeploymentType
from services.router.pricing import PriceRow
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.port import Failure, ProviderError
from services.router.providers.translated import Translated
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.aws_calls import ask, folded, tokens_of, whole
from tests.fakes.aws_server import KEY_ID, REGION, SECRET
from tests.fakes.openai_calls import eventually, make_body, make_call
from tests.fakes.sagemaker_upstream import SageMakerUpstream, Script, open_sagemaker_upstream
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

CALL = {"upstream_model": "my-endpoint", "options": {"engine": "vllm"}}
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
EMBEDDING = {**CALL, "operation": router_pb2.OPERATION_EMBEDDING}
Open = Callable[..., AbstractAsyncContextManager[Translated]]


@pytest.fixture
async def upstream() -> AsyncIterator[SageMakerUpstream]:
    async with open_sagemaker_upstream() as opened:
        yield opened


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


@pytest.fixture
async def opened(pool: HttpPool, upstream: SageMakerUpstream, tmp_path: Path) -> Open:
    """Return what opens a provider for a container that speaks `body`."""
    template = tmp_path / "chat.jinja"
    template.write_text(TEMPLATE)

    def open_one(body: str = "", **fields: Any) -> AbstractAsyncContextManager[Translated]:
        keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
        usual = {"kind": "sagemaker", "region": REGION, "base_url": upstream.base_url}
        entry = SageMakerEntry.model_validate({**usual, **keys, **fields})
        options = {"chat_template": str(template)} | ({"body": body} if body else {})
        deployment = Deployment(
            name="d",
            deployment_id="d",
            provider="p",
            kind="sagemaker",
            backend="sagemaker",
            upstream_model="my-endpoint",
            price=PriceRow("price-1", 1, 1),
            priority=0,
            type=DeploymentType.NATIVE,
            capabilities=frozenset(),
            options=options,
        )
        fetcher = ImageFetcher(FetchRules())
        return open_sagemaker(entry, deployment, pool=pool, fetcher=fetcher, clock=SystemClock())

    return open_one


@pytest.mark.parametrize("has_lines", [False, True])
@pytest.mark.parametrize(("part", "split"), [(1, 0), (7, 0), (5000, 0), (7, 1), (200, 13)])
async def test_stream_cut_anywhere_gives_every_token_once(
    opened: Open, upstream: SageMakerUpstream, part: int, split: int, has_lines: bool
) -> None:
    upstream.script = Script(part=part, split=split, has_lines=has_lines)

    async with opened() as provider:
        streamed = await ask(provider, "shape=c5-d0 prompt=33", call=CALL)
        (plain,) = await ask(provider, "shape=c5-d0 prompt=33", plain=True, call=CALL)

    said = "".join(f"tok{index} " for index in range(5))
    assert said == folded(streamed)["content"] == whole(plain)["content"]
    assert (33, 5) == tokens_of(streamed[-1]) == tokens_of(plain)
    for seen in upstream.seen:
        assert seen.usage is not None
        assert (33, 5) == (seen.usage["prompt_tokens"], seen.usage["completion_tokens"])


async def test_request_goes_to_the_endpoint_and_names_no_model(
    opened: Open, upstream: SageMakerUpstream
) -> None:
    more = {"target_variant": "blue", "inference_component": "small", "target_model": "a.tar.gz"}
    async with opened(**more) as provider:
        await ask(provider, call=CALL, top_k=3)
        await ask(provider, plain=True, call={**CALL, "adapter": "mine"})
        assert await provider.probe()

    first, second = upstream.seen
    assert "/endpoints/my-endpoint/invocations-response-stream" == first.path
    assert "/endpoints/my-endpoint/invocations" == second.path
    assert "model" not in first.body
    assert "mine" == second.body["model"]
    assert (3, 100) == (first.body["top_k"], first.body["max_tokens"])
    assert ("blue", "small", "a.tar.gz") == (
        first.headers["x-amzn-sagemaker-target-variant"],
        first.headers["x-amzn-sagemaker-inference-component"],
        first.headers["x-amzn-sagemaker-target-model"],
    )


async def test_text_completion_is_read_as_one(opened: Open, upstream: SageMakerUpstream) -> None:
    call = {**CALL, "operation": router_pb2.OPERATION_COMPLETION}
    async with opened() as provider:
        streamed = await ask(provider, call=call, prompt="shape=c3-d0", messages=None)

    assert "/endpoints/my-endpoint/invocations-response-stream" == upstream.seen[0].path
    chunks = [
        json.loads(part[6:]) for batch in streamed for part in batch.sse.split(b"\n\n") if part
    ]
    assert "tok0 tok1 tok2 " == "".join(chunk["choices"][0]["text"] for chunk in chunks)


@pytest.mark.parametrize("body", ["tgi", "lmi"])
@pytest.mark.parametrize("has_lines", [False, True])
async def test_prompt_is_written_and_tokens_are_counted(
    opened: Open, upstream: SageMakerUpstream, body: str, has_lines: bool
) -> None:
    details = {"finish_reason": "length", "generated_tokens": 3, "input_length": 9}
    upstream.script = Script("generate", details=details, part=11, has_lines=has_lines)

    async with opened(body) as provider:
        streamed = await ask(provider, call=CALL, temperature=0.5, top_k=7, seed=4, user="u")
        (plain,) = await ask(provider, plain=True, call=CALL, temperature=0)

    sampled = {"do_sample": True, "temperature": 0.5, "top_k": 7, "seed": 4}
    asked, greedy = (seen.body for seen in upstream.seen)
    more = {"max_new_tokens": 100, "details": True, "return_full_text": False}
    assert {"inputs": "[user]hello[assistant]", "parameters": {**sampled, **more}} == {
        name: value for name, value in asked.items() if name != "stream"
    }
    assert {"do_sample": False, **more} == greedy["parameters"]
    assert "stream" not in greedy
    assert ["user"] == list(streamed[0].route.ignored_parameters)
    assert ("Hello wörld", "length") == (
        (said := folded(streamed))["content"],
        said["finish_reason"],
    )
    assert whole(plain) == said
    assert (9, 3) == tokens_of(streamed[-1]) == tokens_of(plain)


async def test_tokens_that_nobody_counted_are_estimated(
    opened: Open, upstream: SageMakerUpstream
) -> None:
    upstream.script = Script("generate")
    async with opened("llama-jumpstart") as provider:
        last = (await ask(provider, call=CALL))[-1]
    upstream.script = Script("generate", details={"generated_tokens": 8})
    async with opened("tgi") as provider:
        counted = (await ask(provider, call=CALL))[-1]

    for batch, tokens in ((last, 3), (counted, 8)):
        assert usage_pb2.USAGE_SOURCE_ESTIMATED == batch.finish.usage.source
        assert (0, tokens) == tokens_of(batch)


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ("tgi", "stop", "x"),
        ("lmi", "tools", [{}]),
        ("llama-jumpstart", "top_k", 4),
        ("tgi", "response_format", {"type": "json_object"}),
    ],
)
async def test_what_a_container_cannot_be_told_is_refused(
    opened: Open, upstream: SageMakerUpstream, body: str, field: str, value: Any
) -> None:
    async with opened(body) as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call=CALL, **{field: value})

    assert (Failure.UNSUPPORTED, field) == (caught.value.failure, caught.value.param)
    assert [] == upstream.seen


@pytest.mark.parametrize(
    ("body", "field", "vectors"),
    [
        ("hf-embed", "inputs", [[1.0, 2.0], [3, 4]]),
        ("jumpstart-embed", "text_inputs", {"embedding": [[1.0, 2.0], [3, 4]]}),
        ("hf-embed", "inputs", {"embeddings": [[1.0, 2.0], [3, 4]]}),
    ],
)
async def test_vectors_are_brought_into_one_form(
    opened: Open, upstream: SageMakerUpstream, body: str, field: str, vectors: Any
) -> None:
    upstream.script = Script("embed", vectors=vectors)
    async with opened(body) as provider:
        (batch,) = await ask(provider, plain=True, call=EMBEDDING, input=["a", "b"], messages=None)

    assert {field: ["a", "b"]} == upstream.seen[0].body
    answer = json.loads(batch.completion)
    assert [[1.0, 2.0], [3.0, 4.0]] == [entry["embedding"] for entry in answer["data"]]
    assert usage_pb2.USAGE_SOURCE_ESTIMATED == batch.finish.usage.source


@pytest.mark.parametrize("vectors", [[[1.0]], [[1.0], [1.0, 2.0]], [["a"], ["b"]], {}, [[], []]])
async def test_vectors_that_were_not_asked_for_are_refused(
    opened: Open, upstream: SageMakerUpstream, vectors: Any
) -> None:
    upstream.script = Script("embed", vectors=vectors)
    async with opened("hf-embed") as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, plain=True, call=EMBEDDING, input=["a", "b"], messages=None)

    assert Failure.INVALID_RESPONSE is caught.value.failure


TOO_LONG = "This model's maximum context length is 4096 tokens. secret"
ORIGINALS = [
    ((400, json.dumps({"object": "error", "message": TOO_LONG})), Failure.CONTEXT_LENGTH),
    ((400, "secret"), Failure.REJECTED),
    ((503, "secret"), Failure.UNAVAILABLE),
    ((429, ""), Failure.RATE_LIMITED),
]


@pytest.mark.parametrize(("original", "failure"), ORIGINALS)
async def test_error_of_the_container_is_told_by_its_own_status(
    opened: Open, upstream: SageMakerUpstream, original: tuple[int, str], failure: Failure
) -> None:
    upstream.script = Script(error="ModelError", status=424, original=original)
    async with opened() as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call=CALL)

    assert failure is caught.value.failure
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "status", "failure"),
    [
        ("ModelError", 424, Failure.UNAVAILABLE),
        ("ValidationError", 400, Failure.REJECTED),
        ("ThrottlingException", 400, Failure.RATE_LIMITED),
        ("AccessDeniedException", 403, Failure.CREDENTIALS),
        ("InternalDependencyException", 530, Failure.UNAVAILABLE),
        ("ModelNotReadyException", 429, Failure.UNAVAILABLE),
    ],
)
async def test_refusal_is_told_by_its_name(
    opened: Open, upstream: SageMakerUpstream, name: str, status: int, failure: Failure
) -> None:
    upstream.script = Script(error=name, status=status)
    async with opened() as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call=CALL)

    assert failure is caught.value.failure
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (Script(exception="ModelStreamError", fail_at=3), Failure.UNAVAILABLE),
        (Script(exception="InternalStreamFailure", fail_at=0), Failure.UNAVAILABLE),
        (Script(fail="cut", fail_at=0), Failure.INCOMPLETE),
        (Script(fail="cut", fail_at=5), Failure.INCOMPLETE),
        (Script(fail="junk", fail_at=5), Failure.INVALID_RESPONSE),
        (Script("generate", fail="cut", fail_at=4), Failure.INCOMPLETE),
    ],
)
async def test_answer_that_breaks_off_is_no_answer(
    opened: Open, upstream: SageMakerUpstream, broken: Script, failure: Failure
) -> None:
    upstream.script = broken
    async with opened("tgi" if broken.container == "generate" else "openai") as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call=CALL)

    assert failure is caught.value.failure
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("at", [3, 8, 14])
async def test_caller_that_goes_away_takes_the_upstream_along(
    opened: Open, upstream: SageMakerUpstream, at: int
) -> None:
    upstream.script = Script(fail="hang", fail_at=at, part=300)
    deadline_s = asyncio.get_running_loop().time() + 9
    async with opened() as provider:
        stream = provider.stream(make_call(**CALL), make_body(), deadline_s=deadline_s)
        async with aclosing(stream) as batches:
            await anext(batches)

    await eventually(lambda: upstream.seen[0].is_over)
    assert upstream.seen[0].is_aborted
    assert upstream.seen[0].usage is None
