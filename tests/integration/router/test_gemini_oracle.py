"""google-genai, which nobody here wrote, at the same fake: it reads answers and asks as we do."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.google.gemini_codec import GeminiCodec, Place
from tests.fakes.gemini_calls import TOOLS, gemini_call
from tests.fakes.gemini_script import (
    SIGNATURE,
    Json,
    Said,
    Script,
    calls,
    status,
    text,
    thoughts,
)
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream, reported
from tests.fakes.openai_calls import make_body

PNG = b"\x89PNG\r\n\x1a\n0000"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
MODEL = "gemini-2.5-flash"


@pytest.fixture
async def upstream() -> AsyncIterator[GeminiUpstream]:
    async with open_gemini_upstream() as opened:
        yield opened


@pytest.fixture(params=["ai_studio", "vertex"])
async def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


@pytest.fixture
async def client(place: Place, upstream: GeminiUpstream) -> AsyncIterator[genai.client.AsyncClient]:
    async with httpx2.AsyncClient() as transport:
        options = types.HttpOptions(
            base_url=upstream.origin,
            api_version="v1beta" if place == "ai_studio" else "v1",
            httpx_async_client=transport,
        )
        if place == "ai_studio":
            yield genai.Client(api_key="AIza-key", http_options=options).aio
            return
        yield genai.Client(
            vertexai=True,
            project="my-project",
            location="europe-west1",
            credentials=Credentials(token="ya29.x"),  # type: ignore[no-untyped-call]
            http_options=options,
        ).aio


SCRIPTS = {
    "text": text("Hello", ", ", "world"),
    "parallel": calls(("weather", {"city": "Rome"}), ("now", None)),
    "reasoning": Script(said=(*thoughts("hm"), Said({"text": "Yes"}))),
    "cached": text("x", cached_tokens=7, tool_tokens=3),
    "bounded": text("x", finish="MAX_TOKENS", finish_in="last"),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_its_client_reads_what_the_fake_speaks(
    client: genai.client.AsyncClient, upstream: GeminiUpstream, name: str
) -> None:
    script = SCRIPTS[name]
    upstream.answers(script)

    whole = await client.models.generate_content(model=MODEL, contents="hi")
    stream = [
        event
        async for event in await client.models.generate_content_stream(model=MODEL, contents="hi")
    ]

    parts = [part for event in stream for part in event.parts or []]
    wanted = [types.Part.model_validate(one.part) for one in script.said]
    usage = types.GenerateContentResponseUsageMetadata.model_validate(reported(script))
    assert wanted == parts
    assert usage == whole.usage_metadata == stream[-1].usage_metadata
    assert script.finish == str((stream[-1].candidates or [])[0].finish_reason.value)  # type: ignore[union-attr]
    assert "".join(p.text or "" for p in wanted) == "".join(p.text or "" for p in whole.parts or [])


async def test_its_client_reads_the_fakes_refusals(
    client: genai.client.AsyncClient, upstream: GeminiUpstream
) -> None:
    upstream.answers(Script(status=429, error=status(429, "RESOURCE_EXHAUSTED", "slow down")))

    with pytest.raises(errors.ClientError) as caught:
        await client.models.generate_content(model=MODEL, contents="hi")

    assert (429, "RESOURCE_EXHAUSTED") == (caught.value.code, caught.value.status)


def ours(place: Place, fields: Json, *, is_streaming: bool) -> tuple[str, Json]:
    """Return path and body of our request; models think only when told to."""
    body = make_body(**{"include_reasoning": False, **fields})
    call = gemini_call(upstream_model=MODEL, is_streaming=is_streaming)
    if not CONSTRAINTS.isdisjoint(body):
        call = call._replace(constraint=constraint_of(body))
    outgoing = GeminiCodec(place).encode(call, body, {})
    return outgoing.path, json.loads(outgoing.body)


DECLARED = [
    types.FunctionDeclaration(
        name="weather",
        description="Tells the weather.",
        parameters_json_schema=TOOLS[0]["function"]["parameters"],
    ),
    types.FunctionDeclaration(name="now"),
]
TOOL = types.Tool(function_declarations=DECLARED)
NO_LOOP = types.AutomaticFunctionCallingConfig(disable=True)
HI = types.Content(role="user", parts=[types.Part(text="hi")])


def calling(**fields: Any) -> types.ToolConfig:
    return types.ToolConfig(function_calling_config=types.FunctionCallingConfig(**fields))


def used(call_id: str, name: str, arguments: str, **more: Any) -> Json:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


CASES: dict[str, tuple[Json, Any, dict[str, Any]]] = {
    "plain": ({"messages": [{"role": "user", "content": "hi"}]}, "hi", {}),
    "sampling": (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ],
            "temperature": 1.5,
            "top_p": 0.5,
            "top_k": 40,
            "stop": ["a"],
            "seed": 7,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
        },
        "hi",
        {
            "system_instruction": types.Content(parts=[types.Part(text="Be brief.")]),
            "temperature": 1.5,
            "top_p": 0.5,
            "top_k": 40,
            "stop_sequences": ["a"],
            "seed": 7,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
        },
    ),
    "thinking": (
        {
            "messages": [{"role": "user", "content": "hi"}],
            "reasoning_effort": "low",
            "include_reasoning": True,
        },
        "hi",
        {"thinking_config": types.ThinkingConfig(thinking_budget=1024, include_thoughts=True)},
    ),
    "schema": (
        {"messages": [{"role": "user", "content": "hi"}], "guided_json": SCHEMA},
        "hi",
        {"response_mime_type": "application/json", "response_json_schema": SCHEMA},
    ),
    "choice": (
        {"messages": [{"role": "user", "content": "hi"}], "guided_choice": ["yes", "no"]},
        "hi",
        {
            "response_mime_type": "text/x.enum",
            "response_schema": types.Schema(type=types.Type.STRING, enum=["yes", "no"]),
        },
    ),
    "image": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {
                            "type": "image_url",
                            "image_url": {
                                "url": "data:image/png;base64," + base64.b64encode(PNG).decode()
                            },
                        },
                    ],
                }
            ]
        },
        types.Content(
            role="user",
            parts=[
                types.Part(text="look"),
                types.Part.from_bytes(data=PNG, mime_type="image/png"),
            ],
        ),
        {},
    ),
    "tools": (
        {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": TOOLS,
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        },
        "hi",
        {
            "tools": [TOOL],
            "tool_config": calling(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["weather"]
            ),
        },
    ),
    "tool loop": (
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": "Wait.",
                    "tool_calls": [
                        used(
                            "a",
                            "weather",
                            '{"city": "Rome"}',
                            extra_content={"google": {"thought_signature": SIGNATURE}},
                        ),
                        used("b", "now", "{}"),
                    ],
                },
                {"role": "tool", "tool_call_id": "b", "content": "noon"},
                {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            ],
            "tools": TOOLS,
        },
        [
            HI,
            types.Content(
                role="model",
                parts=[
                    types.Part(text="Wait."),
                    types.Part(
                        function_call=types.FunctionCall(
                            id="a", name="weather", args={"city": "Rome"}
                        ),
                        thought_signature=base64.b64decode(SIGNATURE),
                    ),
                    types.Part(function_call=types.FunctionCall(id="b", name="now", args={})),
                ],
            ),
            types.Content(
                role="user",
                parts=[
                    types.Part(
                        function_response=types.FunctionResponse(
                            id="a", name="weather", response={"output": "sunny"}
                        )
                    ),
                    types.Part(
                        function_response=types.FunctionResponse(
                            id="b", name="now", response={"output": "noon"}
                        )
                    ),
                ],
            ),
        ],
        {"tools": [TOOL], "tool_config": calling(mode=types.FunctionCallingConfigMode.AUTO)},
    ),
}


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("name", CASES)
async def test_its_client_asks_as_we_do(
    client: genai.client.AsyncClient,
    upstream: GeminiUpstream,
    place: Place,
    name: str,
    is_streaming: bool,
) -> None:
    fields, contents, config = CASES[name]
    told = types.GenerateContentConfig(
        max_output_tokens=100, automatic_function_calling=NO_LOOP, **config
    )
    if is_streaming:
        stream = await client.models.generate_content_stream(
            model=MODEL, contents=contents, config=told
        )
        assert [event async for event in stream]
    else:
        await client.models.generate_content(model=MODEL, contents=contents, config=told)

    path, body = ours(place, fields, is_streaming=is_streaming)

    theirs = upstream.seen[0]
    assert theirs.path.endswith(path)
    assert same(theirs.body) == same(body)


FREE = ("parametersJsonSchema", "responseJsonSchema", "args", "response")


def same(value: Any, name: str = "") -> Any:
    """Return a request without differences that mean nothing.

    Google takes members by either spelling, and bytes in either base64; the role of instructions
    is not looked at.
    """
    if isinstance(value, dict) and name not in FREE:
        members = {camel(key): member for key, member in value.items()}
        if name == "systemInstruction":
            members.pop("role", None)
        return {key: same(member, key) for key, member in members.items()}
    if isinstance(value, list):
        return [same(member) for member in value]
    if name in ("thoughtSignature", "data") and isinstance(value, str):
        return base64.urlsafe_b64decode(value.replace("+", "-").replace("/", "_"))
    return value


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)
