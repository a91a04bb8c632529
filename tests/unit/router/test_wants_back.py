"""Who wants what back of earlier answers, and what a writer hands out of them."""

import json
from typing import Any

import msgspec
import pytest

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.aws.bedrock import BedrockCodec
from services.router.providers.chunk_writer import ChunkWriter
from services.router.providers.google.gemini_codec import GeminiCodec
from services.router.providers.google.vertex_openai import VertexOpenAiCodec
from services.router.providers.port import Body, Call, Keep, Traits, traits_of
from services.router.providers.turn_state import TurnState, WantsBack

CALL = Call("r", "a", 7, "m", "up", True, 10, b'{"id":"a",', 1.0)
CLAUDE = WantsBack(frozenset({"reasoning_details"}), frozenset({"anthropic-claude-v1"}))
GEMINI = WantsBack(
    frozenset({"reasoning_details", "extra_content"}), frozenset({"google-gemini-v1"})
)
EFFORT: Body = {"reasoning_effort": msgspec.Raw(b'"low"')}
SWITCH: Body = {"chat_template_kwargs": msgspec.Raw(b"{}")}
DETAIL: dict[str, object] = {"type": "reasoning.text", "text": "Hm", "signature": "s"}
EXTRA = {"google": {"thought_signature": "s"}}


def wanted(codec: object, body: Body, model: str = "up", **options: str) -> WantsBack | None:
    wants_back = traits_of(codec).wants_back
    assert wants_back is not None
    return wants_back(CALL._replace(upstream_model=model, options=options), body)


@pytest.mark.parametrize("body", [EFFORT, SWITCH])
def test_claude_wants_its_signatures_where_it_is_asked_to_think(body: Body) -> None:
    codec = AnthropicCodec()

    assert CLAUDE == wanted(codec, body)
    assert CLAUDE == wanted(codec, body, thinking="budget")
    assert wanted(codec, body, thinking="none") is None
    assert wanted(codec, {}) is None
    assert CLAUDE == wanted(codec, {}, thinking="always")


def test_bedrock_wants_the_signatures_of_claude_alone() -> None:
    codec, model = BedrockCodec(), "eu.anthropic.claude-x-v1:0"

    assert CLAUDE == wanted(codec, EFFORT, model, thinking="adaptive")
    assert wanted(codec, {}, model, thinking="adaptive") is None
    assert wanted(codec, EFFORT, model) is None
    assert wanted(codec, EFFORT, "amazon.nova-pro-v1:0", thinking="adaptive") is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gemini-3-pro", GEMINI), ("gemini-2.5-flash", GEMINI), ("gemini-2.0-flash", None)],
)
def test_gemini_wants_the_signatures_of_models_that_think(
    model: str, expected: WantsBack | None
) -> None:
    assert expected == wanted(GeminiCodec("ai_studio"), {}, model)


def test_most_want_nothing() -> None:
    assert Traits() == traits_of(VertexOpenAiCodec())
    assert Traits() == traits_of(object())


class Kept(list[tuple[str, dict[str, Any]]]):
    """What a writer handed out."""

    def keep(self, call_id: str, state: TurnState) -> None:
        self.append((call_id, json.loads(state.encoded())))


def writer(keep: Keep | None, *, is_streaming: bool) -> ChunkWriter:
    return ChunkWriter(CALL._replace(is_streaming=is_streaming, keep=keep))


@pytest.mark.parametrize("is_streaming", [True, False])
def test_writer_hands_out_what_stands_beside_the_calls(is_streaming: bool) -> None:
    kept = Kept()
    answer = writer(kept.keep, is_streaming=is_streaming)
    answer.reasoning("H")
    answer.batch()
    answer.reasoning("m")
    answer.reasoning_detail(DETAIL)
    answer.text("I look.")
    answer.tool_arguments(answer.tool_call("c1", "look"), "{}")
    answer.tool_call("c2", "look", extra=EXTRA)
    answer.batch()
    before = list(kept)

    answer.end("tool_calls", None)

    details = [{**DETAIL, "index": 0}]
    state = {"details": details, "reasoning": "Hm", "extras": {"c2": EXTRA}}
    assert ([], [("c1", state)]) == (before, kept)


@pytest.mark.parametrize("is_streaming", [True, False])
def test_writer_hands_out_nothing_of_other_answers(is_streaming: bool) -> None:
    kept = Kept()
    silent, bare = (writer(kept.keep, is_streaming=is_streaming) for _ in range(2))
    silent.reasoning("Hm")
    silent.reasoning_detail(DETAIL)
    silent.end("stop", None)
    bare.text("I look.")
    bare.tool_call("c1", "look")
    bare.end("tool_calls", None)

    assert [] == kept


@pytest.mark.parametrize("is_streaming", [True, False])
def test_answer_is_the_same_whether_it_is_kept_or_not(is_streaming: bool) -> None:
    batches = []
    for keep in (None, Kept().keep):
        answer = writer(keep, is_streaming=is_streaming)
        answer.reasoning("Hm")
        answer.reasoning_detail(DETAIL)
        answer.reasoning_detail(DETAIL)
        answer.tool_call("c1", "look", extra=EXTRA)
        batches.append(answer.end("tool_calls", None))

    assert batches[0] == batches[1]
