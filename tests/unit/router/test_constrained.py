"""An answer on its way through its constraint: gathered, unwrapped and judged."""

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

import pytest

from services.router.constrained import constrained
from services.router.constraints import TEXT_CHARS_MAX, Constraint, constraint_of
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.unwrapping import WRAPPED_CHARS_MAX
from tests.fakes.openai_calls import CHUNK_HEAD, make_body, make_call
from turnpike.router.v1 import router_pb2

OBJECT = {"response_format": {"type": "json_object"}}
CHOICE = {"guided_choice": ["yes", "né"]}
WRAPPED = '{"choice": "né"}\n'


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    encoded = json.dumps([choice], separators=(",", ":"), ensure_ascii=False).encode()
    return CHUNK_HEAD + b'"choices":' + encoded + b"}"


def said(*deltas: str | dict[str, Any], index: int = 0) -> Batch:
    parts = [chunk(index, **({"content": d} if isinstance(d, str) else d)) for d in deltas]
    sse = b"".join(b"data: " + part + b"\n\n" for part in parts)
    return Batch(sse=sse, content_event_count=len(parts))


def ended(*reasons: str) -> Batch:
    chunks = [chunk(index, reason) for index, reason in enumerate(reasons or ("stop",))]
    return Batch(
        finish=router_pb2.Finish(finish_chunks=chunks, finish_reason=(reasons or ("",))[0])
    )


def whole(*contents: Any, reason: str = "stop", **more: Any) -> Batch:
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": c, **more},
            "finish_reason": reason,
        }
        for i, c in enumerate(contents)
    ]
    completion = json.dumps({"id": "c", "choices": choices, "usage": {"total_tokens": 5}}).encode()
    return Batch(completion=completion, finish=router_pb2.Finish(finish_reason=reason))


class Run:
    """What came of an answer."""

    def __init__(self, fields: dict[str, Any], engine: str = "vllm") -> None:
        self.constraint: Constraint = constraint_of(make_body(**fields))
        self.call = make_call(constraint=self.constraint, options={"engine": engine})
        self.batches: list[Batch] = []
        self.unjudged_count = 0
        self.is_closed = False

    async def play(self, batches: Iterable[Batch]) -> "Run":
        async def provider() -> AsyncGenerator[Batch, None]:
            try:
                for batch in batches:
                    yield batch
            finally:
                self.is_closed = True

        def count() -> None:
            self.unjudged_count += 1

        stream = constrained(provider(), self.call, self.constraint, on_unjudged=count)
        async with aclosing(stream):
            async for batch in stream:
                self.batches.append(batch)
        return self

    @property
    def deltas(self) -> list[dict[str, Any]]:
        events = b"".join(batch.sse for batch in self.batches).split(b"\n\n")[:-1]
        assert all(event.startswith(b"data: " + CHUNK_HEAD) for event in events)
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
        return [choice["delta"] for one in chunks for choice in one["choices"]]


@pytest.mark.parametrize(
    "batches",
    [
        [said('{"a"', ":1}"), ended()],
        [said({"role": "assistant", "content": ""}), said("{}"), ended()],
        [said({"reasoning_content": "not JSON"}), said("{}"), ended()],
        [said("{}"), said("not", "JSON", index=1), ended("stop", "length")],
        [said("not JSON"), ended("length")],
        [said("not JSON"), ended("content_filter")],
        [said({"tool_calls": [{"index": 0}]}), ended("tool_calls")],
        [said({"tool_calls": [{"index": 0}]}), ended("stop")],
        [said({"refusal": "I will not."}), ended("stop")],
        [whole('{"a":1}', "{}")],
        [whole("not JSON", reason="length")],
        [whole(None, tool_calls=[{"id": "c"}])],
        [whole(None, refusal="I will not.")],
        [whole("{}", reasoning_content="not JSON", tool_calls=[], function_call=None)],
    ],
)
async def test_answer_that_keeps_to_its_constraint_passes_as_it_is(batches: list[Batch]) -> None:
    before = [batch.SerializeToString() for batch in batches]

    run = await Run(OBJECT).play(batches)

    assert before == [batch.SerializeToString() for batch in run.batches]
    assert 0 == run.unjudged_count


@pytest.mark.parametrize(
    "batches",
    [
        [said("not JSON"), ended()],
        [said('{"a":1}', " and more"), ended()],
        [said('{"a":'), ended()],
        [ended()],
        [said("{}"), said("[]", index=1), ended("stop", "stop")],
        [said("{}"), Batch(sse=said("x").sse, finish=ended().finish)],
        [whole("not JSON")],
        [whole("{}", "[]")],
        [whole(None)],
        [whole("")],
    ],
)
async def test_answer_that_breaks_its_constraint_has_no_end(batches: list[Batch]) -> None:
    run = Run(OBJECT)

    with pytest.raises(ProviderError) as caught:
        await run.play(batches)

    assert (Failure.INVALID_OUTPUT, "response_format") == (caught.value.failure, caught.value.param)
    assert caught.value.is_retryable
    assert batches[:-1] == run.batches
    assert run.is_closed


@pytest.mark.parametrize(
    "batches",
    [
        [said("x" * 40_000), said("x" * 40_000), ended()],
        [whole("x" * (TEXT_CHARS_MAX + 1))],
        [whole([{"type": "text", "text": "x"}])],
        [said({"content": [{"type": "text"}]}), ended()],
        [whole("[" * 5_000)],
    ],
)
async def test_answer_that_cannot_be_judged_passes_and_is_counted(batches: list[Batch]) -> None:
    run = await Run(OBJECT).play(batches)

    assert len(batches) == len(run.batches)
    assert 1 == run.unjudged_count


async def test_caller_that_leaves_closes_the_upstream() -> None:
    run = Run(OBJECT)

    stream = constrained(
        provider := _endless(run), run.call, run.constraint, on_unjudged=lambda: None
    )
    await anext(stream)
    await stream.aclose()

    assert run.is_closed
    await provider.aclose()


async def _endless(run: Run) -> AsyncGenerator[Batch, None]:
    try:
        while True:
            yield said("x")
    finally:
        run.is_closed = True


async def test_ignored_hints_are_told_with_the_first_content() -> None:
    fields = {**OBJECT, "guided_decoding_backend": "b", "guided_whitespace_pattern": " "}

    run = await Run(fields, "openai").play(
        [Batch(sse=said({"role": "assistant"}).sse), said("{}"), said(" "), ended()]
    )

    told = [list(batch.route.ignored_parameters) for batch in run.batches]
    assert [[], ["guided_decoding_backend", "guided_whitespace_pattern"], [], []] == told


@pytest.mark.parametrize("size", range(1, len(WRAPPED) + 1))
async def test_choice_is_shown_once_however_its_object_is_cut(size: int) -> None:
    pieces = [WRAPPED[at : at + size] for at in range(0, len(WRAPPED), size)]
    role = Batch(sse=said({"role": "assistant", "content": ""}).sse)

    run = await Run(CHOICE, "openai").play([role, *(said(piece) for piece in pieces), ended()])

    assert [{"role": "assistant", "content": ""}, {"content": "né"}] == run.deltas
    assert 1 == sum(batch.content_event_count for batch in run.batches)
    assert 0 == run.unjudged_count


async def test_choices_of_several_answers_are_unwrapped_each_by_itself() -> None:
    batches = [
        said('{"choice":'),
        said('{"choice":', index=1),
        said('"yes"}'),
        said({"reasoning_content": "hm", "content": '"né"}'}, index=1),
        ended("stop", "stop"),
    ]

    run = await Run(CHOICE, "openai").play(batches)

    assert [{"content": "yes"}, {"reasoning_content": "hm", "content": "né"}] == run.deltas
    assert [0, 0, 1, 1, 0] == [batch.content_event_count for batch in run.batches]


@pytest.mark.parametrize(
    "text", ["yes", '{"choice":"maybe"}', '{"choice":5}', '{"other":"yes"}', '{"choice":"yes"', "}"]
)
async def test_object_without_a_choice_shows_nothing_and_is_invalid(text: str) -> None:
    streamed, plain = Run(CHOICE, "openai"), Run(CHOICE, "openai")

    with pytest.raises(ProviderError, match="guided_choice"):
        await streamed.play([said(text), ended()])
    with pytest.raises(ProviderError, match="guided_choice"):
        await plain.play([whole(text)])

    assert [] == streamed.deltas
    assert [] == plain.batches


async def test_object_that_was_cut_shows_no_choice_and_keeps_its_end() -> None:
    streamed = await Run(CHOICE, "openai").play([said('{"choice":"y'), ended("length")])
    plain = await Run(CHOICE, "openai").play([whole('{"choice":"y', reason="length")])

    answer = json.loads(plain.batches[0].completion)
    assert [] == streamed.deltas
    assert ("", "length") == (
        answer["choices"][0]["message"]["content"],
        answer["choices"][0]["finish_reason"],
    )


async def test_plain_choice_takes_the_place_of_its_object() -> None:
    run = await Run(CHOICE, "openai").play([whole(WRAPPED, '{"choice":"yes"}')])

    answer = json.loads(run.batches[0].completion)
    assert ["né", "yes"] == [choice["message"]["content"] for choice in answer["choices"]]
    assert ("c", {"total_tokens": 5}) == (answer["id"], answer["usage"])


async def test_object_without_an_end_is_given_up() -> None:
    run = Run(CHOICE, "openai")

    with pytest.raises(ProviderError) as caught:
        await run.play([said(" " * WRAPPED_CHARS_MAX), said(" "), ended()])

    assert Failure.INVALID_OUTPUT is caught.value.failure
    assert [] == run.deltas


async def test_stream_that_is_no_chat_completion_is_a_bad_response() -> None:
    with pytest.raises(ProviderError) as caught:
        await Run(CHOICE, "openai").play([said({"content": 5}), ended()])

    assert Failure.INVALID_RESPONSE is caught.value.failure
