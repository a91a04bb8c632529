"""What a dispatcher asks of a provider that wants earlier answers back, or knows no markers."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.bus.port import BucketSpec
from kit.sealed import new_key, ring_of
from services.router.providers.port import Batch, Body, Call, Traits
from services.router.providers.turn_state import TurnState, WantsBack
from services.router.turn_states import TurnStates
from tests.unit.router.scripted import Rig, content, finish, open_rig, request
from turnpike.router.v1 import router_pb2

WANTED = WantsBack(frozenset({"reasoning_content"}))
CALLED = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}
MARKED = {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}
TOOLS: list[Any] = []


@dataclass
class Asking:
    """Takes the place of a provider; keeps what it is asked, and says what there is to keep."""

    traits: Traits
    asked: list[tuple[Call, Body]] = field(default_factory=list)

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        self.asked.append((call, body))
        if call.keep is not None:
            call.keep("c1", TurnState(reasoning="Hm"))
        yield content("x")
        yield finish()

    async def probe(self) -> bool:
        return True

    @property
    def messages(self) -> Any:
        return json.loads(bytes(self.asked[-1][1]["messages"]))


def asked(*messages: Any, account_id: str = "account-1", **fields: Any) -> router_pb2.RunRequest:
    body = {"model": "model-1", "messages": messages, **fields}
    made = request(account_id=account_id)
    made.body = msgspec.json.encode(body)
    return made


def place(rig: Rig, traits: Traits) -> Asking:
    """Put a provider with these traits in the place of the scripted one."""
    asking = Asking(traits)
    (member,) = rig.fleet._members.values()
    member.provider, member.traits = asking, traits
    spec = BucketSpec("TURNS", ttl_s=60.0)
    rig.fleet.turns = TurnStates(rig.bus, spec=spec, ring=ring_of(new_key()), clock=rig.clock)
    return asking


async def run(rig: Rig, asked: router_pb2.RunRequest) -> list[Batch]:
    return [batch async for batch in rig.dispatcher.run(asked)]


async def test_what_was_kept_comes_back_with_the_next_turn(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"one": []}) as rig:
        asking = place(rig, Traits(lambda _call, _body: WANTED))
        await run(rig, asked(CALLED, tools=TOOLS))
        before = asking.messages
        await run(rig, asked(CALLED, tools=TOOLS))

    assert [[CALLED], [{**CALLED, "reasoning_content": "Hm"}]] == [before, asking.messages]


async def test_another_account_gets_nothing_of_it(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"one": []}) as rig:
        asking = place(rig, Traits(lambda _call, _body: WANTED))
        await run(rig, asked(CALLED, tools=TOOLS))
        await run(rig, asked(CALLED, tools=TOOLS, account_id="account-2"))

    assert [CALLED] == asking.messages


@pytest.mark.parametrize("traits", [Traits(), Traits(lambda _call, _body: None)])
async def test_who_wants_nothing_is_asked_what_came(tmp_path: Path, traits: Traits) -> None:
    async with open_rig(tmp_path, {"one": []}) as rig:
        asking = place(rig, traits)
        for _ in range(2):
            await run(rig, asked(CALLED, tools=TOOLS))

    assert [None, None] == [call.keep for call, _ in asking.asked]
    assert [CALLED] == asking.messages


@pytest.mark.parametrize(
    ("takes", "fields", "message", "ignored"),
    [
        (False, {}, {"role": "user", "content": "Hi"}, ["cache_control"]),
        (True, {}, MARKED, []),
        (
            False,
            {"cache_control": {}, "odd": 1},
            {"role": "user", "content": "Hi"},
            ["cache_control", "odd"],
        ),
    ],
)
async def test_markers_reach_only_who_knows_them(
    tmp_path: Path, takes: bool, fields: dict[str, Any], message: Any, ignored: list[str]
) -> None:
    async with open_rig(tmp_path, {"one": []}) as rig:
        asking = place(rig, Traits(takes_cache_marks=takes))
        made = asked(MARKED, **fields)
        made.envelope.unknown_fields.extend(fields)
        batches = await run(rig, made)

    assert [message] == asking.messages
    assert ignored == list(batches[0].route.ignored_parameters)
    assert asking.asked[-1][1].keys() == {"model", "messages"}
