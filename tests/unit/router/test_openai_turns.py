"""What vendors want back is gathered from chunks and from whole answers alike."""

import json
from typing import Any

import pytest

from services.router.providers.openai import turns as openai_turns
from services.router.providers.openai.profiles import PROFILES
from services.router.providers.openai.turns import TurnGatherer, wants_back
from services.router.providers.port import Batch, Body, Call
from services.router.providers.turn_state import TurnState, WantsBack
from turnpike.router.v1 import router_pb2

CALL = Call("r", "a", 7, "m", "anthropic/claude", False, 10, b"", 1.0)
BODY: Body = {"messages": json.dumps([]).encode()}  # type: ignore[dict-item] # as good as Raw here
EXTRA = {"google": {"thought_signature": "s"}}


def detail(**more: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", **more}


def streamed(*deltas: dict[str, Any], each: int = 1) -> list[Batch]:
    """Return batches of `each` chunks and the end."""
    events = [
        b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()
        for delta in deltas
    ]
    batches = [Batch(sse=b"".join(events[at : at + each])) for at in range(0, len(events), each)]
    return [
        *batches,
        Batch(finish=router_pb2.Finish(finish_chunks=[b'{"choices":[{"delta":{}}]}'])),
    ]


def whole(message: dict[str, Any]) -> list[Batch]:
    answer = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
    return [Batch(completion=answer, finish=router_pb2.Finish())]


def gathered(batches: list[Batch]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, TurnState]] = []
    gatherer = TurnGatherer(lambda call_id, state: found.append((call_id, state)))
    for batch in batches:
        gatherer.take(batch)
    return [(call_id, json.loads(state.encoded())) for call_id, state in found]


CALLS = [
    {"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}},
    {"index": 1, "id": "c2"},
]


@pytest.mark.parametrize("each", [1, 2, 9])
def test_stream_is_gathered(each: int) -> None:
    batches = streamed(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Let me"},
        {"reasoning_content": " see"},
        {"tool_calls": CALLS},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}, "extra_content": EXTRA}]},
        each=each,
    )

    assert [("c1", {"reasoning": "Let me see", "extras": {"c1": EXTRA}})] == gathered(batches)


def test_pieces_of_details_are_joined() -> None:
    batches = streamed(
        {"reasoning_details": [detail(text="Let me")]},
        {"reasoning_details": [detail(text=" see"), detail(index=1, data="x", type="e")]},
        {"reasoning_details": [detail(signature="s", text=None)]},
        {"tool_calls": CALLS},
    )

    ((_, state),) = gathered(batches)

    first, second = detail(text="Let me see", signature="s"), detail(index=1, data="x", type="e")
    assert [first, second] == state["details"]


def test_whole_answer_is_gathered() -> None:
    details = [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.encrypted"}]
    calls = [{"id": "c1", "extra_content": EXTRA}, {"id": "c2"}]
    message = {"reasoning_content": "Hm", "reasoning_details": details, "tool_calls": calls}

    state = {"details": details, "reasoning": "Hm", "extras": {"c1": EXTRA}}
    assert [("c1", state)] == gathered(whole(message))


@pytest.mark.parametrize(
    "batches",
    [
        streamed({"reasoning_content": "Hm"}),
        streamed({"tool_calls": CALLS}),
        whole({"content": "Hi", "reasoning_content": "Hm"}),
        whole({"tool_calls": CALLS}),
        [Batch(sse=b"data: junk\n\n"), *streamed({"reasoning_content": "x", "tool_calls": CALLS})],
        streamed({"reasoning_content": "Hm", "tool_calls": CALLS})[:-1],
    ],
)
def test_nothing_is_kept_of_other_answers(batches: list[Batch]) -> None:
    assert [] == gathered(batches)


def test_choices_are_kept_apart() -> None:
    choices = [
        {
            "index": n,
            "delta": {"reasoning_content": f"r{n}", "tool_calls": [{"index": 0, "id": f"c{n}"}]},
        }
        for n in range(2)
    ]
    sse = b"data: %b\n\n" % json.dumps({"choices": choices}).encode()

    found = gathered([Batch(sse=sse), Batch(finish=router_pb2.Finish())])

    assert [("c0", {"reasoning": "r0"}), ("c1", {"reasoning": "r1"})] == found


def test_reasoning_that_is_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_turns, "GATHERED_CHARS_MAX", 5)

    assert [] == gathered(streamed({"reasoning_content": "longer", "tool_calls": CALLS}))


def test_deepseek_wants_its_reasoning_back_where_it_reasons() -> None:
    profile = PROFILES["deepseek"]

    found = wants_back(profile, CALL, BODY, reasons=True)

    assert WantsBack(frozenset({"reasoning_content"})) == found
    assert wants_back(profile, CALL, BODY, reasons=False) is None
    assert wants_back(profile, CALL._replace(operation=1), BODY, reasons=True) is None


@pytest.mark.parametrize(
    ("model", "taken", "kept_away"),
    [
        ("anthropic/claude-4.5", {"anthropic-claude-v1", "", "odd"}, {"google-gemini-v1"}),
        ("google/gemini-3-pro", {"google-gemini-v1"}, {"anthropic-claude-v1"}),
        ("openai/gpt", {"azure-openai-responses-v1"}, {"xai-responses-v1"}),
        ("moonshotai/kimi", {"", "unknown"}, {"anthropic-claude-v1", "google-gemini-v1"}),
    ],
)
def test_openrouter_wants_the_details_of_the_models_maker(
    model: str, taken: set[str], kept_away: set[str]
) -> None:
    call = CALL._replace(upstream_model=model)

    found = wants_back(PROFILES["openrouter"], call, BODY, reasons=False)

    assert found is not None
    assert {"reasoning_details"} == found.members
    assert taken == set(filter(found.takes, taken | kept_away))


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"deepseek", "openrouter"}))
def test_others_want_nothing_back(name: str) -> None:
    assert wants_back(PROFILES[name], CALL, BODY, reasons=True) is None
