"""Dispatch of what is not chat: how answers are headed, guessed and charged."""

from pathlib import Path

import pytest

from kit.errors import Reason, TurnpikeError
from services.router.providers.port import Batch
from tests.unit.router.scripted import Scripts, content, finish, open_rig, request, usage
from turnpike.events.v1 import events_pb2
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

Event = events_pb2.UsageEvent
COMPLETION, EMBEDDING = router_pb2.OPERATION_COMPLETION, router_pb2.OPERATION_EMBEDDING
EVERYTHING = (router_pb2.OPERATION_UNSPECIFIED, COMPLETION, EMBEDDING)
ESTIMATED = usage_pb2.TokenUsage(source=usage_pb2.USAGE_SOURCE_ESTIMATED)


def vectors(told: usage_pb2.TokenUsage) -> Batch:
    return Batch(completion=b'{"object":"list"}', finish=router_pb2.Finish(usage=told))


async def test_what_a_model_does_not_serve_is_refused_before_anything_is_journalled(
    tmp_path: Path,
) -> None:
    async with open_rig(tmp_path, {"a": [[finish()]]}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await anext(rig.dispatcher.run(request(operation=EMBEDDING)))
        outcomes = await rig.outcomes()

    assert (Reason.INVALID_VALUE, "model") == (caught.value.reason, caught.value.metadata["param"])
    assert [] == outcomes == rig.providers["a"].calls


async def test_text_completion_has_its_own_head_and_chat_keeps_its(tmp_path: Path) -> None:
    scripts: Scripts = {"a": [[content("x"), finish()], [content("x"), finish()]]}
    async with open_rig(tmp_path, scripts, operations=EVERYTHING) as rig:
        for operation in (COMPLETION, router_pb2.OPERATION_UNSPECIFIED):
            asked = request(operation=operation, id_prefix="cmpl-", has_null_usage=True)
            async for _ in rig.dispatcher.run(asked):
                pass
        text, chat = rig.providers["a"].calls

    assert (COMPLETION, 0) == (text.operation, chat.operation)
    head = b'{"id":"cmpl-%b","object":"%b","created":%d,"model":"model-1","usage":null,'
    for call, name in ((text, b"text_completion"), (chat, b"chat.completion.chunk")):
        said = head % (call.request_id.encode(), name, call.create_unix_s)
        assert said == call.chunk_head


@pytest.mark.parametrize(
    ("told", "prompt_tokens", "completion"),
    [
        (usage(7, 0), 7, b'{"object":"list"}'),
        (ESTIMATED, 20, b'{"object":"list","usage":{"prompt_tokens":20,"total_tokens":20}}'),
    ],
)
async def test_vectors_are_charged_by_their_prompt_counted_or_guessed(
    tmp_path: Path, told: usage_pb2.TokenUsage, prompt_tokens: int, completion: bytes
) -> None:
    asked = request(operation=EMBEDDING, is_streaming=False, max_tokens=0)
    async with open_rig(tmp_path, {"a": [[vectors(told)]]}, operations=EVERYTHING) as rig:
        (batch,) = [batch async for batch in rig.dispatcher.run(asked)]
        (outcome,) = await rig.outcomes()

    assert (prompt_tokens, 0) == (
        outcome.usage.prompt_token_count,
        outcome.usage.completion_token_count,
    )
    assert prompt_tokens * 10 == outcome.charge_nusd == batch.finish.charge_nusd
    assert (Event.OUTCOME_COMPLETED, completion) == (outcome.outcome, batch.completion)
    assert told.source == outcome.usage.source


async def test_vectors_without_a_completion_fit_a_hold_of_their_prompt(tmp_path: Path) -> None:
    asked = request(operation=EMBEDDING, is_streaming=False, max_tokens=0, hold_nusd=400)
    dear = request(operation=EMBEDDING, is_streaming=False, max_tokens=0, hold_nusd=399)
    async with open_rig(tmp_path, {"a": [[vectors(usage(7, 0))]]}, operations=EVERYTHING) as rig:
        assert [batch async for batch in rig.dispatcher.run(asked)]
        with pytest.raises(TurnpikeError) as caught:
            await anext(rig.dispatcher.run(dear))

    assert Reason.NO_PROVIDERS_AVAILABLE is caught.value.reason
