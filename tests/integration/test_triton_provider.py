"""The Triton adapter against a real Triton server: one suite over both transports."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from kit.clock import SystemClock
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.triton import TritonProvider, open_triton
from services.router.providers.triton_grpc import open_grpc_transport
from services.router.providers.triton_http import open_http_transport
from services.router.providers.triton_port import TritonConfig, TritonTransport
from services.router.providers.triton_tensors import Ask
from services.router.template import ChatTemplate, load_chat_template
from tests.fixtures.triton import ENVIRONMENT, EXAMPLE, Triton

pytestmark = pytest.mark.timeout(180)

HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny",'
PATIENCE_S = 30.0
Open = Callable[..., AbstractAsyncContextManager[TritonProvider]]
Transport = Literal["grpc", "http"]


@dataclass
class Outcome:
    """An answer put together from its batches."""

    batches: list[Batch] = field(default_factory=list)

    @property
    def text(self) -> str:
        last = self.batches[-1]
        if last.completion:
            message: str = msgspec.json.decode(last.completion)["choices"][0]["message"]["content"]
            return message
        return "".join(delta.get("content", "") for delta in self.deltas)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        events = b"".join(batch.sse for batch in self.batches).split(b"\n\n")[:-1]
        chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events]
        return [chunk["choices"][0]["delta"] for chunk in chunks]

    @property
    def completion_tokens(self) -> int:
        return self.batches[-1].finish.usage.completion_token_count


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    path = EXAMPLE / "models" / "tiny-chat" / "1" / "tokenizer_config.json"
    return load_chat_template(path, clock=SystemClock())


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def open_model(triton: Triton, template: ChatTemplate, transport: Transport) -> Open:
    return opener(triton, template, transport)


def opener(server: Triton, template: ChatTemplate, transport: Transport) -> Open:
    @asynccontextmanager
    async def open_model(model_name: str = "tiny-chat") -> AsyncIterator[TritonProvider]:
        config = TritonConfig(
            model_name=model_name,
            template=template,
            grpc_address=server.grpc_address,
            http_address=server.http_address,
            transport=transport,
        )
        async with open_triton(config) as provider:
            yield provider

    return open_model


def a_call(**changes: Any) -> Call:
    given: dict[str, Any] = {
        "request_id": "r-1",
        "answer_id": "chatcmpl-1",
        "create_unix_s": 1,
        "model_id": "tiny",
        "upstream_model": "tiny-chat",
        "is_streaming": True,
        "max_tokens": 20,
        "chunk_head": HEAD,
        "idle_s": PATIENCE_S,
    }
    return Call(**{**given, **changes})


def a_body(question: str = "Why is the sea salty?", **fields: Any) -> Body:
    fields.setdefault("messages", [{"role": "user", "content": question}])
    return msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])


def stream(
    provider: TritonProvider, call: Call, body: Body, wait_s: float = PATIENCE_S
) -> AsyncGenerator[Batch, None]:
    return provider.stream(call, body, deadline_s=asyncio.get_running_loop().time() + wait_s)


async def run(provider: TritonProvider, call: Call, body: Body) -> Outcome:
    return Outcome([batch async for batch in stream(provider, call, body)])


@asynccontextmanager
async def open_transport(
    server: Triton, template: ChatTemplate, transport: Transport, model_name: str
) -> AsyncIterator[TritonTransport]:
    config = TritonConfig(
        model_name=model_name,
        template=template,
        grpc_address=server.grpc_address,
        http_address=server.http_address,
    )
    if transport == "grpc":
        async with open_grpc_transport(config) as grpc_way:
            yield grpc_way
    else:
        async with open_http_transport(config, None) as http_way:
            yield http_way


async def start_failure(way: TritonTransport, request: Ask) -> ProviderError:
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    generation = await way.start(request, "r-1", deadline_s)
    try:
        with pytest.raises(ProviderError) as caught:
            await generation.read(deadline_s)
    finally:
        generation.close()
    return caught.value


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


# Answers.


async def test_triton_stream_says_the_same_as_the_plain_answer(open_model: Open) -> None:
    async with open_model() as provider:
        body = a_body(seed=7, temperature=0.8)

        streamed = await run(provider, a_call(max_tokens=60), body)
        plain = await run(provider, a_call(max_tokens=60, is_streaming=False), body)

    assert plain.text == streamed.text
    assert plain.batches[-1].finish.usage == streamed.batches[-1].finish.usage
    assert len(plain.batches) == 1
    assert len(streamed.batches) > 1


async def test_triton_chunks_begin_with_the_role_and_the_end_is_kept_apart(
    open_model: Open,
) -> None:
    async with open_model() as provider:
        outcome = await run(provider, a_call(max_tokens=5), a_body(seed=3))

    finish = outcome.batches[-1].finish
    finish_chunk = msgspec.json.decode(finish.finish_chunks[0])
    usage = msgspec.json.decode(finish.usage_json)
    assert outcome.deltas[0] == {"role": "assistant", "content": ""}
    assert all(set(delta) == {"content"} for delta in outcome.deltas[1:])
    assert b"usage" not in b"".join(batch.sse for batch in outcome.batches)
    assert finish_chunk["choices"][0]["finish_reason"] == "length"
    assert finish_chunk["id"] == "chatcmpl-1"
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5


async def test_triton_plain_answer_has_the_shape_of_a_chat_completion(open_model: Open) -> None:
    async with open_model() as provider:
        outcome = await run(provider, a_call(is_streaming=False, max_tokens=4), a_body(seed=3))

    completion = msgspec.json.decode(outcome.batches[0].completion)
    choice = completion["choices"][0]
    assert list(completion) == ["id", "object", "created", "model", "choices", "usage"]
    assert completion["object"] == "chat.completion"
    assert choice["message"] == {"role": "assistant", "content": outcome.text, "refusal": None}
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "length"


async def test_triton_serves_32_streams_at_once_each_in_order_and_exactly_counted(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    first = 1000 if transport == "grpc" else 2000
    seeds = range(first, first + 32)

    async with open_model("tiny-paced") as provider, open_model() as reference:
        call = a_call(max_tokens=30)
        outcomes = await asyncio.gather(
            *(run(provider, call, a_body(seed=seed, ignore_eos=True)) for seed in seeds)
        )
        expected = await asyncio.gather(
            *(
                run(reference, a_call(max_tokens=30, is_streaming=False), body)
                for body in (a_body(seed=seed, ignore_eos=True) for seed in seeds)
            )
        )

    assert [one.text for one in expected] == [one.text for one in outcomes]
    assert [triton.journal(seed)[0] for seed in seeds] == [o.completion_tokens for o in outcomes]
    for outcome in outcomes:
        totals = [batch.running_usage.completion_token_count for batch in outcome.batches]
        assert sorted(totals) == totals
        assert totals[-1] == 30


async def test_triton_end_token_and_stop_string_both_end_with_stop(open_model: Open) -> None:
    async with open_model() as provider:
        whole = await run(provider, a_call(max_tokens=200), a_body(temperature=0, seed=1))
        word = whole.text.split()[3]
        cut = await run(provider, a_call(max_tokens=200), a_body(temperature=0, seed=1, stop=word))

    assert whole.batches[-1].finish.finish_reason == "stop"
    assert cut.batches[-1].finish.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(word)]


async def test_triton_tokens_whose_text_is_held_back_are_counted_without_an_event(
    open_model: Open,
) -> None:
    async with open_model() as provider:
        body = a_body(temperature=0, seed=1, stop="a stop string that never comes by itself")

        outcome = await run(provider, a_call(max_tokens=12), body)

    first = outcome.batches[0]
    assert outcome.completion_tokens == 12
    assert first.running_usage.completion_token_count > first.content_event_count == 1


async def test_triton_http_merges_the_deltas_that_came_while_nobody_read(
    triton: Triton, template: ChatTemplate
) -> None:
    async with opener(triton, template, "http")("tiny-paced") as provider:
        body = a_body(seed=3001, ignore_eos=True)
        async with aclosing(stream(provider, a_call(max_tokens=40), body)) as batches:
            first = await anext(batches)
            await eventually(lambda: triton.journal(3001)[1])
            rest = [batch async for batch in batches]

    assert first.running_usage.completion_token_count < 40
    assert len(rest) <= 2
    assert rest[-1].running_usage.completion_token_count == 40


# Cancelling.


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_triton_stops_generating_when_the_iterator_is_closed(
    open_model: Open, triton: Triton, transport: Transport, is_streaming: bool
) -> None:
    seed = 4000 + 2 * is_streaming + (transport == "grpc")
    async with open_model("tiny-paced") as provider:
        call = a_call(max_tokens=3000, is_streaming=is_streaming)
        body = a_body(seed=seed, ignore_eos=True)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(run(provider, call, body))
            await eventually(lambda: triton.journal(seed)[0] >= 3)
            reader.cancel()
        await eventually(lambda: triton.journal(seed)[1])

    assert triton.journal(seed)[0] < 1500


async def test_triton_stops_when_the_consumer_leaves_between_two_batches(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    seed = 4100 + (transport == "grpc")
    async with open_model("tiny-paced") as provider:
        body = a_body(seed=seed, ignore_eos=True)

        async with aclosing(stream(provider, a_call(max_tokens=3000), body)) as batches:
            first = await anext(batches)
        await eventually(lambda: triton.journal(seed)[1])

    assert first.content_event_count == 1
    assert triton.journal(seed)[0] < 1500


async def test_triton_stops_when_it_is_cancelled_before_the_first_token(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    # Over HTTP the server looks at the connection again only when it has something to send.
    seed = 4200 + (transport == "grpc")
    fault = "[silence after 0]" if transport == "grpc" else "[speech after 60]"
    async with open_model("tiny-paced") as provider:
        body = a_body(fault, seed=seed, ignore_eos=True)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(run(provider, a_call(max_tokens=3000), body))
            await eventually(lambda: triton.journal(seed)[0] >= 1)
            reader.cancel()
        await eventually(lambda: triton.journal(seed)[1])

    assert triton.journal(seed)[0] < 1500


# Failures.


async def failure_of(
    provider: TritonProvider, call: Call, body: Body, *, wait_s: float = PATIENCE_S
) -> tuple[ProviderError, list[Batch]]:
    batches: list[Batch] = []

    async def gather() -> None:
        async for batch in stream(provider, call, body, wait_s):
            batches.append(batch)  # noqa: PERF401 - what came before the error must be kept

    with pytest.raises(ProviderError) as caught:
        await gather()
    return caught.value, batches


async def test_triton_without_the_model_is_not_found_and_does_not_hang(open_model: Open) -> None:
    async with open_model("no-such-model") as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

        assert error.failure is Failure.NOT_FOUND
        assert await provider.probe() is False


async def test_triton_error_without_a_final_flag_ends_the_request(
    triton: Triton, template: ChatTemplate, transport: Transport
) -> None:
    async with open_transport(triton, template, transport, "no-such-model") as way:
        error = await start_failure(way, Ask("x", "{}", ("stream",)))

    assert error.failure is Failure.NOT_FOUND


async def test_triton_input_that_the_model_does_not_have_is_not_the_clients_fault(
    triton: Triton, template: ChatTemplate
) -> None:
    # Over HTTP an unknown key is a parameter of the request, which nobody reads.
    async with open_transport(triton, template, "grpc", "tiny-chat") as way:
        error = await start_failure(way, Ask("x", '{"max_tokens":1}', ("stream", "no_such_input")))

    assert error.failure is Failure.INVALID_RESPONSE


async def test_triton_bad_parameter_is_rejected_by_name(open_model: Open) -> None:
    async with open_model() as provider:
        error, _ = await failure_of(provider, a_call(), a_body(temperature=-1))

    assert error.failure is Failure.REJECTED
    assert error.message == "Parameter `temperature` was refused by the model."
    assert error.status == 400


async def test_triton_prompt_that_is_too_long_is_named_so(open_model: Open) -> None:
    async with open_model() as provider:
        error, _ = await failure_of(provider, a_call(), a_body("salt " * 5000))

    assert error.failure is Failure.CONTEXT_LENGTH


async def test_triton_failing_before_the_first_token_is_retryable_and_tells_nothing(
    open_model: Open,
) -> None:
    async with open_model("tiny-paced") as provider:
        error, batches = await failure_of(provider, a_call(), a_body("[crash after 0]"))

    assert batches == []
    assert error.is_retryable
    assert error.failure is Failure.INVALID_RESPONSE
    assert "crash" not in error.message


@pytest.mark.parametrize("fault", ["crash", "abort"])
async def test_triton_breaking_off_after_some_tokens_is_incomplete(
    open_model: Open, fault: str
) -> None:
    async with open_model("tiny-paced") as provider:
        body = a_body(f"[{fault} after 6]", ignore_eos=True, seed=1)

        error, batches = await failure_of(provider, a_call(), body)

    assert error.failure is Failure.INCOMPLETE
    assert batches[-1].running_usage.completion_token_count >= 1
    assert not any(batch.HasField("finish") for batch in batches)


async def test_triton_silent_before_the_first_token_is_a_timeout_that_stops_it(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    seed = 4300 + (transport == "grpc")
    fault = "[silence after 0]" if transport == "grpc" else "[speech after 60]"
    async with open_model("tiny-paced") as provider:
        body = a_body(fault, seed=seed, ignore_eos=True)
        call = a_call(max_tokens=3000)

        error, batches = await failure_of(provider, call, body, wait_s=0.5)
        await eventually(lambda: triton.journal(seed)[1])

    assert error.failure is Failure.TIMEOUT
    assert batches == []


async def test_triton_silent_in_the_middle_is_a_timeout(open_model: Open) -> None:
    async with open_model("tiny-paced") as provider:
        body = a_body("[silence after 5]", seed=1, ignore_eos=True)
        call = a_call(max_tokens=3000, idle_s=0.5)

        error, batches = await failure_of(provider, call, body)

    assert error.failure is Failure.TIMEOUT
    assert batches != []


async def test_triton_plain_answer_keeps_to_its_deadline(open_model: Open) -> None:
    async with open_model("tiny-paced") as provider:
        call = a_call(is_streaming=False, max_tokens=3000)

        error, _ = await failure_of(provider, call, a_body(seed=1, ignore_eos=True), wait_s=0.5)

    assert error.failure is Failure.TIMEOUT


async def test_triton_probe_is_true_for_a_ready_model(open_model: Open) -> None:
    async with open_model() as provider:
        is_ready = await provider.probe()

    assert is_ready is True


async def test_triton_that_is_not_there_cannot_be_reached(
    template: ChatTemplate, transport: Transport
) -> None:
    nowhere = Triton(0, "127.0.0.1:1", "127.0.0.1:1", Path("/nonexistent"))
    async with opener(nowhere, template, transport)() as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

        assert error.failure is Failure.CONNECT
        assert await provider.probe() is False


async def test_triton_killed_in_the_middle_is_incomplete_on_both_transports(
    doomed_triton: Triton, template: ChatTemplate
) -> None:
    transports: tuple[Transport, Transport] = ("grpc", "http")
    body = a_body(seed=5, ignore_eos=True)
    errors = []
    async with asyncio.TaskGroup() as group:
        begun = asyncio.Barrier(len(transports) + 1)

        async def read(transport: Transport) -> None:
            open_model = opener(doomed_triton, template, transport)
            async with open_model("tiny-paced") as provider:
                batches = stream(provider, a_call(max_tokens=3000), body)
                await anext(batches)
                await begun.wait()
                with pytest.raises(ProviderError) as caught:
                    await run_out(batches)
                errors.append(caught.value.failure)
                assert await provider.probe() is False

        for transport in transports:
            group.create_task(read(transport))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
        doomed_triton.kill()

    assert errors == [Failure.INCOMPLETE, Failure.INCOMPLETE]


async def run_out(batches: AsyncIterator[Batch]) -> None:
    async for _ in batches:
        pass


# The server itself.


def test_triton_stub_runs_on_the_library_of_its_own_python(triton: Triton) -> None:
    stubs = [
        folder
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and is_stub_of(folder, triton.pid)
    ]

    libraries = {
        line.split()[-1]
        for stub in stubs
        for line in (stub / "maps").read_text().splitlines()
        if "libpython" in line
    }

    assert len(stubs) == 2
    assert len(libraries) == 1
    assert base_library() in libraries


def is_stub_of(folder: Path, server_pid: int) -> bool:
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        return parent == server_pid and "python_backend_stub" in (folder / "cmdline").read_text()
    except OSError:
        return False


def base_library() -> str:
    ask_it = (
        "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME'))"
    )
    python = ENVIRONMENT / "bin" / "python"
    done = subprocess.run([python, "-c", ask_it], capture_output=True, text=True, check=True)
    return str(Path(*done.stdout.split()).resolve())
