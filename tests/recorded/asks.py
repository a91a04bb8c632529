"""The requests whose answers are recorded, and how they are asked and taken down."""

import json
from typing import Any, Final, NamedTuple

from tests.fixtures.gateway import Key, Site
from tests.integration.gateway.wire import answer_of, events_of
from tests.recorded.forms import Recorded

TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "clock")
]
PLACE: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "place", "schema": PLACE, "strict": True},
}


class Ask(NamedTuple):
    """A request body without its model, and what its answer must say to be worth recording.

    Streamed text comes in pieces, so `says` is short.
    """

    fields: dict[str, Any]
    says: str
    prompt: str = "hello"

    def body(self, **more: Any) -> dict[str, Any]:
        """Return the body of a chat completion."""
        return {"messages": [{"role": "user", "content": self.prompt}], **self.fields, **more}


CHATS: Final = {
    "text": Ask({}, "salty"),
    "episode": Ask({"episode_id": "0192d3a0-7c00-7000-8000-000000000001"}, '"episode_id"'),
    "length": Ask({"max_tokens": 2}, '"length"'),
    "content filter": Ask({}, '"content_filter"', "forbidden"),
    "refusal": Ask({}, "I will not.", "refuse"),
    "reasoning": Ask({}, '"reasoning_content"', "think"),
    "tools": Ask({"tools": TOOLS, "parallel_tool_calls": False}, '"weather"'),
    "parallel tools": Ask({"tools": TOOLS}, '"clock"'),
    "tool result": Ask({"tools": TOOLS, "tool_choice": "none"}, "salty"),
    "choices": Ask({"n": 3}, '"index":2'),
    "log probabilities": Ask({"logprobs": True, "top_logprobs": 2, "n": 2}, '"top_logprobs"'),
    "schema": Ask({"response_format": SCHEMA}, "ris"),
    "JSON": Ask({"response_format": {"type": "json_object"}}, "swer"),
}


async def recorded(
    site: Site, key: Key, path: str, body: dict[str, Any], *, kind: str
) -> tuple[list[Recorded], str]:
    """Ask and return what came, body or chunks, and all of it as text without spaces in JSON.

    Raises:
        AssertionError: It was refused.
    """
    call = site.http.post(f"{site.url}/v1{path}", json=body, headers=key.headers)
    answer = await answer_of(call)
    text = answer.body.decode().replace('": ', '":')
    assert 200 == answer.status, text
    if not body.get("stream"):
        return [Recorded(kind, json.loads(text))], text
    *chunks, done = events_of(answer.body)
    assert "[DONE]" == done
    return [Recorded(f"{kind} chunk", chunk) for chunk in chunks], text


def check_stream(chunks: list[Recorded]) -> None:
    """Hold the chunks of a stream against one another: one identity, one end of each choice."""
    values = [chunk.value for chunk in chunks]
    assert 1 == len({(v["id"], v["created"], v["model"], v["object"]) for v in values})
    ends: dict[int, int] = {}
    for choice in (choice for value in values for choice in value["choices"]):
        assert not ends.get(choice["index"]), "a choice goes on after its end"
        ends[choice["index"]] = choice["finish_reason"] is not None
    assert all(ends.values()), ends
