"""Folding a Triton model's responses into batches, and the adapter over a scripted transport."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kit.clock import ManualClock
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.providers.triton.adapter import TritonProvider
from services.router.providers.triton.answer import Answer
from services.router.providers.triton.contract import Contract, Part
from services.router.providers.triton.port import TritonConfig, TritonTransport
from services.router.providers.triton.servers import ANY_RULES, Servers
from services.router.providers.triton.wire import Ask, ModelSettings, Outputs, Signature
from services.router.template import ChatTemplate
from tests.unit.router.triton_models import BLS, HEAD, LLMAPI, VLLM, a_call
from turnpike.type.v1 import usage_pb2


def a_part(
    text: str,
    finish_reason: str = "",
    *,
    num_input_tokens: int | None = 4,
    num_output_tokens: int | None = 1,
) -> Part:
    return Part(
        text=text,
        finish_reason=finish_reason,
        num_input_tokens=num_input_tokens,
        num_output_tokens=num_output_tokens,
    )


def deltas(sse: bytes) -> Iterator[dict[str, Any]]:
    for event in sse.split(b"\n\n")[:-1]:
        assert event.startswith(b"data: " + HEAD)
        yield msgspec.json.decode(event[6:])["choices"][0]["delta"]


def test_deltas_that_came_together_make_one_event() -> None:
    answer = Answer(a_call())

    batch = answer.add([a_part("a"), a_part('"b"\n')])

    assert batch is not None
    assert list(deltas(batch.sse)) == [
        {"role": "assistant", "content": ""},
        {"content": 'a"b"\n'},
    ]
    assert batch.content_event_count == 1
    assert batch.running_usage == usage_pb2.TokenUsage(
        prompt_token_count=4,
        completion_token_count=2,
        source=usage_pb2.USAGE_SOURCE_UPSTREAM,
    )


def test_batches_keep_the_totals_they_were_made_with() -> None:
    answer = Answer(a_call())

    batches = [answer.add([a_part("a")]), answer.add([a_part("b")])]

    totals = [batch.running_usage.completion_token_count for batch in batches if batch]
    assert totals == [1, 2]


def test_token_without_text_is_counted_with_the_next_event() -> None:
    answer = Answer(a_call())

    silent = answer.add([a_part("")])
    batch = answer.add([a_part("ab")])

    assert silent is None
    assert batch is not None
    assert batch.running_usage.completion_token_count == 2


def test_text_of_the_last_response_travels_with_the_end() -> None:
    answer = Answer(a_call())
    answer.add([a_part("a")])

    nothing = answer.add([a_part("b", "stop")])
    last = answer.end()

    assert nothing is None
    assert list(deltas(last.sse)) == [{"content": "b"}]
    assert last.finish.finish_reason == "stop"
    assert msgspec.json.decode(last.finish.usage_json)["total_tokens"] == 6


def test_answer_without_any_text_still_begins_with_the_role() -> None:
    answer = Answer(a_call())

    answer.add([a_part("", "stop")])
    last = answer.end()

    assert list(deltas(last.sse)) == [{"role": "assistant", "content": ""}]
    assert last.content_event_count == 0


def test_prompt_tokens_are_taken_once() -> None:
    answer = Answer(a_call(is_streaming=False))

    answer.add([a_part("a"), a_part("b", num_input_tokens=99), a_part("c", "length")])
    last = answer.end()

    assert last.finish.usage.prompt_token_count == 4
    assert last.finish.usage.completion_token_count == 3
    assert msgspec.json.decode(last.completion)["choices"][0]["message"]["content"] == "abc"


def chunks(sse: bytes) -> list[dict[str, Any]]:
    events = sse.split(b"\n\n")[:-1]
    return [msgspec.json.decode(event[6:])["choices"][0] for event in events]


def test_every_choice_has_events_and_an_end_of_its_own_and_usage_is_their_sum() -> None:
    answer = Answer(a_call(), choice_count=2)

    first = answer.add([a_part("a"), Part("b", "stop", 4, 2, index=1)])
    second = answer.add([a_part("c", "length"), Part("", "stop", 4, 0, index=1)])
    last = answer.end()

    assert first is not None
    assert second is None
    said = [(chunk["index"], chunk["delta"].get("content")) for chunk in chunks(first.sse)]
    assert [(0, ""), (0, "a"), (1, ""), (1, "b")] == said
    assert [(0, "c")] == [(c["index"], c["delta"]["content"]) for c in chunks(last.sse)]
    ends = [msgspec.json.decode(chunk)["choices"][0] for chunk in last.finish.finish_chunks]
    assert [(0, "length"), (1, "stop")] == [(c["index"], c["finish_reason"]) for c in ends]
    assert 2 == first.content_event_count
    assert (4, 4) == (
        last.finish.usage.prompt_token_count,
        last.finish.usage.completion_token_count,
    )


def test_answer_is_not_over_before_its_last_choice() -> None:
    answer = Answer(a_call(is_streaming=False), choice_count=2)

    answer.add([a_part("a", "stop"), Part("b", "", 4, 1, index=1)])
    with pytest.raises(ProviderError) as caught:
        answer.end()
    answer.add([Part("", "stop", 4, 0, index=0), Part("c", "stop", 4, 1, index=1)])

    assert Failure.INCOMPLETE is caught.value.failure
    whole = msgspec.json.decode(answer.end().completion)
    assert ["a", "bc"] == [choice["message"]["content"] for choice in whole["choices"]]
    assert 3 == whole["usage"]["completion_tokens"]


def test_log_probabilities_travel_with_the_text_they_belong_to() -> None:
    answer = Answer(a_call())

    held = answer.add([Part("", "", 4, 1, logprobs=(b'{"token":"a"}',))])
    batch = answer.add([Part("ab", "", 4, 1, logprobs=(b'{"token":"b"}',))])
    answer.add([Part("", "stop", 4, 1, logprobs=(b'{"token":""}',))])
    last = answer.end()

    assert held is None
    assert batch is not None
    chunk, end = chunks(batch.sse)[-1], chunks(last.sse)[-1]
    assert {"content": [{"token": "a"}, {"token": "b"}], "refusal": None} == chunk["logprobs"]
    assert [{"token": ""}] == end["logprobs"]["content"]
    assert ("", 0) == (end["delta"]["content"], last.content_event_count)


def test_whole_answer_has_all_log_probabilities() -> None:
    answer = Answer(a_call(is_streaming=False))

    answer.add([Part("a", "", 4, 1, logprobs=(b"1",)), Part("b", "stop", 4, 1, logprobs=(b"2",))])

    choice = msgspec.json.decode(answer.end().completion)["choices"][0]
    assert {"content": [1, 2], "refusal": None} == choice["logprobs"]


@pytest.mark.parametrize("reason", ["abort", "error", "surprise"])
def test_any_other_end_is_incomplete_after_its_text_was_shown(reason: str) -> None:
    answer = Answer(a_call())

    batch = answer.add([a_part("a"), a_part("b", reason)])
    with pytest.raises(ProviderError) as caught:
        answer.end()

    assert batch is not None
    assert list(deltas(batch.sse))[1:] == [{"content": "ab"}]
    assert answer.is_finished
    assert caught.value.failure is Failure.INCOMPLETE


def test_answer_without_a_finish_reason_is_incomplete() -> None:
    answer = Answer(a_call())
    answer.add([a_part("a")])

    with pytest.raises(ProviderError) as caught:
        answer.end()

    assert caught.value.failure is Failure.INCOMPLETE


@pytest.mark.parametrize(
    "part", [a_part("a", num_input_tokens=None), a_part("a", num_output_tokens=None)]
)
def test_answer_that_cannot_be_billed_is_an_invalid_response(part: Part) -> None:
    with pytest.raises(ProviderError) as caught:
        Answer(a_call()).add([part])

    assert caught.value.failure is Failure.INVALID_RESPONSE


def a_response(text: str, finish_reason: str = "None") -> Outputs:
    counts = {"num_input_tokens": 4, "num_output_tokens": 1}
    return {"text_output": text, "finish_reason": finish_reason, **counts}


Step = list[Outputs] | ProviderError


class ScriptedGeneration:
    """Returns responses as told; an exception among them is raised."""

    def __init__(self, script: list[Step]) -> None:
        self.script = script
        self.events: list[str] = []

    async def read(self, _deadline_s: float) -> list[Outputs]:
        step = self.script.pop(0) if self.script else []
        if isinstance(step, ProviderError):
            raise step
        return step

    async def finish(self) -> None:
        self.events.append("finish")

    def close(self) -> None:
        self.events.append("close")


class ScriptedTransport:
    """One generation after another, and a count of the questions about the model."""

    def __init__(self, *scripts: list[Step], described: Signature = VLLM) -> None:
        self.generations = [ScriptedGeneration(script) for script in scripts]
        self.next = iter(self.generations)
        self.described = described
        self.metadata_count = 0
        self.asked: list[Ask] = []

    async def signature(self, _deadline_s: float) -> Signature:
        self.metadata_count += 1
        return self.described._replace(settings=ModelSettings())

    async def settings(self, _deadline_s: float) -> ModelSettings:
        if not self.described.settings.parameters:
            raise ProviderError(Failure.CREDENTIALS, "No.")
        return self.described.settings

    async def version(self, _deadline_s: float) -> str:
        return "2.51.0"

    async def is_ready(self, _deadline_s: float) -> bool:
        raise ProviderError(Failure.CONNECT, "No.")

    async def start(self, request: Ask, _request_id: str, _deadline_s: float) -> ScriptedGeneration:
        self.asked.append(request)
        return next(self.next)


def a_provider(transport: ScriptedTransport) -> TritonProvider:
    template = ChatTemplate("{{ messages[0].content }}", clock=ManualClock())
    servers = Servers[TritonTransport, Contract]({"one": transport}, ANY_RULES)
    return TritonProvider(TritonConfig(model_name="m", template=template), servers)


async def batches_of(provider: TritonProvider) -> list[Batch]:
    body = {"messages": msgspec.Raw(b'[{"role":"user","content":"hi"}]')}
    deadline_s = asyncio.get_running_loop().time() + 30
    return [batch async for batch in provider.stream(a_call(), body, deadline_s=deadline_s)]


async def outcome(provider: TritonProvider) -> Failure | str:
    try:
        batches = await batches_of(provider)
    except ProviderError as error:
        return error.failure
    return batches[-1].finish.finish_reason


async def test_model_is_described_once_and_again_after_a_failure() -> None:
    good: list[Step] = [[a_response("a", "stop")]]
    bad: list[Step] = [ProviderError(Failure.NOT_FOUND, "Gone.")]
    transport = ScriptedTransport(list(good), list(good), bad, list(good))
    provider = a_provider(transport)

    outcomes = [await outcome(provider) for _ in range(4)]

    assert outcomes == ["stop", "stop", Failure.NOT_FOUND, "stop"]
    assert transport.metadata_count == 2


async def test_finished_call_may_end_by_itself_and_a_failed_one_is_closed() -> None:
    transport = ScriptedTransport([[a_response("a", "stop")]], [[a_response("a")], []])
    provider = a_provider(transport)

    outcomes = [await outcome(provider), await outcome(provider)]

    assert outcomes == ["stop", Failure.INCOMPLETE]
    assert [g.events for g in transport.generations] == [["finish", "close"], ["close"]]


async def test_client_mistake_is_found_before_triton_is_asked() -> None:
    transport = ScriptedTransport()
    provider = a_provider(transport)
    body = {"messages": msgspec.Raw(b'[{"role":"tool","content":"x"}]')}

    with pytest.raises(ProviderError) as caught:
        await anext(provider.stream(a_call(), body, deadline_s=0.0))

    assert caught.value.failure is Failure.UNSUPPORTED
    assert transport.metadata_count == 0


async def test_refused_parameter_does_not_make_the_model_be_described_again() -> None:
    transport = ScriptedTransport([[a_response("a", "stop")]], [[a_response("a", "stop")]])
    provider = a_provider(transport)
    body = {
        "messages": msgspec.Raw(b'[{"role":"user","content":"x"}]'),
        "tools": msgspec.Raw(b"[1]"),
    }

    first = await outcome(provider)
    with pytest.raises(ProviderError):
        await anext(provider.stream(a_call(), body, deadline_s=math.inf))
    second = await outcome(provider)

    assert ("stop", "stop", 1) == (first, second, transport.metadata_count)


@pytest.mark.parametrize(("setting", "text"), [("true", "a b"), ("false", "aa b"), ("", "aa b")])
async def test_settings_say_whether_a_model_repeats_its_text(setting: str, text: str) -> None:
    counts = {"num_input_tokens": 4, "num_output_tokens": 1}
    script: list[Step] = [[{"text_output": piece, **counts}] for piece in ("a", "a b")]
    settings = {"accumulate_tokens": setting} if setting else {}
    transport = ScriptedTransport(script, described=BLS._replace(settings=ModelSettings(settings)))

    batches = await batches_of(a_provider(transport))

    assert text == "".join(
        delta.get("content", "") for batch in batches for delta in deltas(batch.sse)
    )
    assert "stop" == batches[-1].finish.finish_reason


async def test_answer_that_nobody_counts_is_estimated_by_its_pieces() -> None:
    pieces = [{"text_output": "a"}, {"text_output": "a b"}, {"text_output": "a b c"}]
    end = {"text_output": "a b c", "finish_reason": "stop"}
    script: list[Step] = [[pieces[0]], [pieces[1], pieces[2]], [end]]
    transport = ScriptedTransport(script, described=LLMAPI)

    batches = await batches_of(a_provider(transport))

    assert [1, 2, 0] == [batch.content_event_count for batch in batches]
    assert not any(batch.HasField("running_usage") for batch in batches)
    usage = batches[-1].finish.usage
    assert (usage_pb2.USAGE_SOURCE_ESTIMATED, 3) == (usage.source, usage.completion_token_count)
    assert b"" == batches[-1].finish.usage_json


async def test_answer_that_nobody_counts_and_that_came_whole_is_estimated_by_its_length() -> None:
    script: list[Step] = [[{"text_output": "x" * 41, "finish_reason": "stop"}]]
    transport = ScriptedTransport(script, described=LLMAPI)

    (batch,) = await batches_of(a_provider(transport))

    assert (1, 11) == (
        batch.content_event_count,
        batch.finish.usage.completion_token_count,
    )


async def test_server_that_cannot_be_asked_is_not_ready() -> None:
    is_ready = await a_provider(ScriptedTransport()).probe()

    assert is_ready is False
