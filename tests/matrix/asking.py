"""Asks for a cell and checks what comes: what the answer means, its form, and its price."""

import json
from typing import Any, NamedTuple

from tests.fixtures.catalogues import price_nusd
from tests.fixtures.gateway import Key, until
from tests.integration.gateway.wire import Answer, answer_of, events_of
from tests.matrix.cells import Cell, body_of, model_of
from tests.matrix.providers import CATALOGUE
from tests.matrix.reply import ARGUED, PIXEL, UNTOLD, Reply, Told
from tests.matrix.sites import Place
from tests.recorded.asks import check_stream
from tests.recorded.forms import Recorded, check
from turnpike.type.v1.usage_pb2 import USAGE_SOURCE_UPSTREAM

MIDWAY = frozenset({"upstream_incomplete", "upstream_invalid_response"})
AHEAD_TOKENS_MAX = 16
"""What an upstream may have made before it notices that nobody reads any more."""


class Said(NamedTuple):
    """What a client understood of an answer."""

    text: str
    thoughts: str
    tools: list[tuple[str, Any]]
    finish_reason: str
    usage: Told


async def outcome_of(place: Place, cell: Cell, *, is_streaming: bool) -> str:
    """Ask, check, and return `ok`, or what was refused or left aside."""
    model = model_of(cell.name, is_streaming=is_streaming)
    if model in place.unwritable:
        return f"refused({CATALOGUE})"
    site, upstream = place.site, place.opened.upstream
    key = await site.key()
    asked = upstream.tell(cell.reply, is_streaming=is_streaming)
    body = body_of(cell, asked, place.provider.asks.get(cell.name, cell.fields))
    body["model"] = model
    if is_streaming:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    before = upstream.asked_count()
    if cell.reply.trouble == "silence":
        await _leave(place, key, body, cell.reply.after)
        return "ok"
    answer = await answer_of(site.post(key, body))
    if param := refused_param(answer):
        assert before == upstream.asked_count()
        assert 0 == (await site.balance(key)).charged_nusd
        return f"refused({param})"
    if cell.reply.trouble:
        is_late = is_streaming and cell.reply.trouble != "refusal"
        await _check_trouble(place, key, answer, asked.text or cell.reply.text, is_late=is_late)
        return "ok"
    assert 200 == answer.status, answer.body
    said = said_in_stream(answer.body) if is_streaming else said_at_once(answer.json)
    ignored = answer.headers.get("X-Turnpike-Ignored", "")
    _check_meaning(cell.reply, said, has_thoughts=not ignored)
    assert not cell.reply.has_picture or upstream.has_seen(PIXEL)
    assert await check_money(place, key, said.usage)
    return f"ignored({ignored})" if ignored else "ok"


def refused_param(answer: Answer) -> str:
    """Return the parameter that a refusal names; empty when it is none."""
    if answer.status != 400:
        return ""
    check(Recorded("error", answer.json))
    assert "unsupported_parameter" == answer.error["code"], answer.body
    return str(answer.error["param"])


def said_at_once(value: Any) -> Said:
    """Return what a whole answer says, checked against OpenAI's types."""
    check(Recorded("chat", value))
    (choice,) = value["choices"]
    message = choice["message"]
    calls = message.get("tool_calls") or []
    return Said(
        message["content"] or "",
        message.get("reasoning_content") or "",
        _called([(call["id"], call["function"]) for call in calls]),
        choice["finish_reason"],
        _usage(value["usage"]),
    )


def said_in_stream(body: bytes) -> Said:
    """Return what a stream adds up to, each chunk checked against OpenAI's types."""
    *chunks, done = events_of(body)
    assert "[DONE]" == done
    found = [Recorded("chat chunk", chunk) for chunk in chunks]
    for one in found:
        check(one)
    check_stream(found)
    assert chunks[-1]["usage"] is not None
    return Said(*folded(chunks), _usage(chunks[-1]["usage"]))


def folded(chunks: list[Any]) -> tuple[str, str, list[tuple[str, Any]], str]:
    """Return text, thoughts, calls of tools and the finish reason of chunks."""
    text, thoughts, reason = "", "", ""
    calls: list[tuple[str, dict[str, str]]] = []
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        delta = choice["delta"]
        text += delta.get("content") or ""
        thoughts += delta.get("reasoning_content") or ""
        reason = choice["finish_reason"] or reason
        for piece in delta.get("tool_calls") or ():
            if piece["index"] == len(calls):
                calls.append((piece["id"], {"name": piece["function"]["name"], "arguments": ""}))
            assert piece["index"] == len(calls) - 1, "calls come one after the other"
            calls[-1][1]["arguments"] += piece["function"].get("arguments") or ""
    return text, thoughts, _called(calls), reason


def _called(calls: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    ids = [call_id for call_id, _ in calls]
    assert all(ids)
    assert len(ids) == len(set(ids))
    return [(function["name"], json.loads(function["arguments"])) for _, function in calls]


def _usage(usage: Any) -> Told:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return Told(usage["prompt_tokens"], usage["completion_tokens"])


def _check_meaning(reply: Reply, said: Said, *, has_thoughts: bool) -> None:
    assert [(name, ARGUED) for name in reply.tools] == said.tools
    assert ("tool_calls" if reply.tools else "stop") == said.finish_reason
    assert said.thoughts == "".join(reply.thoughts) or not (has_thoughts or said.thoughts)
    if reply.is_structured:
        assert json.loads(reply.text) == json.loads(said.text)
    elif not reply.tools:
        assert reply.text == said.text


async def check_money(place: Place, key: Key, seen: Told) -> bool:
    """Hold what the upstream, the client, the record and the ledger say against each other.

    Returns:
        Whether the upstream counted.
    """
    (record,) = await place.site.settled(key, 1)
    told = place.opened.upstream.told()
    recorded = Told(record.usage.prompt_token_count, record.usage.completion_token_count)
    assert "completed" == record.outcome
    assert told is not None
    assert seen == recorded
    assert [count for count in told if count != UNTOLD] == [
        count for count, known in zip(recorded, told, strict=True) if known != UNTOLD
    ]
    assert price_nusd(*recorded) == record.charge_nusd
    return record.usage.source == USAGE_SOURCE_UPSTREAM


async def _check_trouble(
    place: Place, key: Key, answer: Answer, wanted: str, *, is_late: bool
) -> None:
    assert b"secret" not in answer.body
    assert is_late == (answer.status == 200), answer.body
    if not is_late:
        check(Recorded("error", answer.json))
        assert 502 == answer.status
        assert "all_providers_failed" == answer.error["code"]
        delivered = 0
    else:
        *chunks, end = events_of(answer.body)
        assert end["error"]["code"] in MIDWAY
        text = folded(chunks)[0]
        assert wanted.startswith(text)
        assert text
        delivered = sum(1 for chunk in chunks if chunk["choices"][0]["delta"].get("content"))
    await _check_part(place, key, delivered, "upstream_failed" if is_late else "refused")


async def _check_part(place: Place, key: Key, delivered: int, outcome: str) -> None:
    """Hold what a part of an answer cost against what came and what was made of it."""
    (record,) = await place.site.settled(key, 1)
    assert outcome == record.outcome
    usage, made = record.usage, place.opened.upstream.made()
    assert delivered <= usage.completion_token_count <= made
    # Nothing of a whole answer that broke was handed over, however much of it was made.
    assert outcome == "refused" or made - usage.completion_token_count <= AHEAD_TOKENS_MAX
    assert usage.prompt_token_count <= place.opened.upstream.prompt_tokens_max
    if not usage.completion_token_count:
        assert 0 == record.charge_nusd
        return
    priced = price_nusd(usage.prompt_token_count, usage.completion_token_count)
    assert priced == record.charge_nusd


async def _leave(place: Place, key: Key, body: dict[str, Any], count: int) -> None:
    """Read so many pieces of a stream, then close the connection."""
    upstream = place.opened.upstream
    pieces, seen = 0, b""
    async with place.site.post(key, body) as response:
        assert 200 == response.status, await response.read()
        while pieces < count:
            seen += await response.content.readany()
            whole = seen[: seen.rfind(b"\n\n") + 2]
            pieces = sum(1 for chunk in events_of(whole) if _has_content(chunk)) if whole else 0
        response.close()
    await until(upstream.is_left)
    await _check_part(place, key, pieces, "client_closed")


def _has_content(chunk: Any) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])
