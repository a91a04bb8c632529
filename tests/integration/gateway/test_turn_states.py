"""A tool loop of a client that keeps only OpenAI's own fields, over models that want more back.

Two routers share one nats-server: the second turn goes to the one that did not see the first.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from prometheus_client import CollectorRegistry

from kit.bus.nats import open_nats_bus
from kit.bus.port import Bus
from kit.sealed import new_key
from kit.telemetry import Telemetry
from tests.fakes import anthropic_script as claude
from tests.fakes import bedrock_upstream as converse
from tests.fakes import gemini_script as gemini
from tests.fakes.anthropic_upstream import open_anthropic_upstream
from tests.fakes.aws_server import KEY_ID, REGION, SECRET
from tests.fakes.bedrock_upstream import open_bedrock_upstream
from tests.fakes.gemini_upstream import open_gemini_upstream
from tests.fakes.vendors import open_vendor
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.nats import NatsServer

MODEL = "thinker"
THOUGHT = "thought-canary-8812"
SIGNATURE = "c2lnbmF0dXJlLWNhbmFyeS04ODEz"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks.",
            "parameters": {
                "type": "object",
                "properties": {"at": {"type": "string"}},
                "required": ["at"],
            },
        },
    }
]
ASK: Any = {"role": "user", "content": "Please think. What is at sea? prompt-canary-8814"}
FIELDS = {"role", "content", "tool_calls", "refusal"}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A fake model: how it is written in the catalogue and what it does.

    `call` and `answer` let it call the tool `look` and answer; `thoughts` returns what it was
    given back of its thoughts with its last request.
    """

    provider: dict[str, Any]
    model: str
    call: Callable[[], None]
    answer: Callable[[], None]
    thoughts: Callable[[], Any]
    wanted: Any
    extra: dict[str, Any]
    deployment: dict[str, Any]


async def anthropic(stack: AsyncExitStack) -> Upstream:
    fake = await stack.enter_async_context(open_anthropic_upstream())

    def call() -> None:
        thought = claude.thinking("Hm ", THOUGHT, signature=SIGNATURE)
        use = claude.tool("toolu_1", "look", '{"at":', '"sea"}')
        says = (thought, claude.redacted("c2VhbGVk"), claude.text("I look."), use)
        fake.script = claude.Script(says=says, stop_reason="tool_use")

    def answer() -> None:
        fake.script = claude.Script(says=(claude.text("Ships"),))

    def thoughts() -> Any:
        said = fake.seen[-1].body["messages"][1]["content"]
        return [block for block in said if "thinking" in block["type"]]

    return Upstream(
        {"kind": "anthropic", "base_url": fake.base_url, "api_key": "${UPSTREAM_KEY}"},
        "claude-fake",
        call,
        answer,
        thoughts,
        [
            {"type": "thinking", "thinking": f"Hm {THOUGHT}", "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": "c2VhbGVk"},
        ],
        {"reasoning_effort": "medium"},
        {},
    )


async def bedrock(stack: AsyncExitStack) -> Upstream:
    fake = await stack.enter_async_context(open_bedrock_upstream())

    def call() -> None:
        thought = converse.thought("Hm ", THOUGHT, signature=SIGNATURE)
        use = converse.tool("tooluse_1", "look", '{"at":', '"sea"}')
        fake.script = converse.Script(said=(thought, use), stop_reason="tool_use")

    def answer() -> None:
        fake.script = converse.Script(said=(converse.text("Ships"),))

    def thoughts() -> Any:
        said = fake.seen[-1].body["messages"][1]["content"]
        return [block["reasoningContent"] for block in said if "reasoningContent" in block]

    return Upstream(
        {
            "kind": "bedrock",
            "base_url": fake.base_url,
            "region": REGION,
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "thinking": "adaptive",
        },
        "eu.anthropic.claude-x-v1:0",
        call,
        answer,
        thoughts,
        [{"reasoningText": {"text": f"Hm {THOUGHT}", "signature": SIGNATURE}}],
        {"reasoning_effort": "medium"},
        {},
    )


async def ai_studio(stack: AsyncExitStack) -> Upstream:
    fake = await stack.enter_async_context(open_gemini_upstream())

    def call() -> None:
        fake.answers(gemini.calls(("look", {"at": "sea"}), ("look", {"at": "land"})))

    def answer() -> None:
        fake.answers(gemini.text("Ships"))

    def thoughts() -> Any:
        return [part.get("thoughtSignature") for part in fake.seen[-1].body["contents"][1]["parts"]]

    return Upstream(
        {"kind": "google_ai_studio", "base_url": fake.base_url, "api_key": "${UPSTREAM_KEY}"},
        "gemini-3-flash-preview",
        call,
        answer,
        thoughts,
        [gemini.SIGNATURE, None],
        {},
        {},
    )


async def deepseek(stack: AsyncExitStack) -> Upstream:
    fake = await stack.enter_async_context(open_vendor("deepseek"))

    def nothing() -> None:
        """It calls tools and answers by itself."""

    return Upstream(
        {"kind": "deepseek", "base_url": fake.base_url, "api_key": "sk-vendor"},
        "deepseek-v4",
        nothing,
        nothing,
        lambda: [m.get("reasoning_content") for m in fake.seen[-1]["messages"]],
        [None, "Let me think.", None],
        {},
        {"reasons": True},
    )


async def openrouter(stack: AsyncExitStack) -> Upstream:
    fake = await stack.enter_async_context(open_vendor("openrouter"))

    def nothing() -> None:
        """It calls tools and answers by itself."""

    detail = {"type": "reasoning.text", "text": "Let me think.", "format": "x", "index": 0}
    return Upstream(
        {"kind": "openrouter", "base_url": fake.base_url, "api_key": "sk-vendor"},
        "acme/thinker",
        nothing,
        nothing,
        lambda: fake.seen[-1]["messages"][1].get("reasoning_details", []),
        [detail],
        {},
        {},
    )


UPSTREAMS = {
    "openrouter": openrouter,
    "anthropic": anthropic,
    "bedrock": bedrock,
    "gemini": ai_studio,
    "deepseek": deepseek,
}
KEY = new_key()


@dataclass(frozen=True, slots=True)
class Loop:
    """A site over one of the models."""

    site: Site
    key: Key
    upstream: Upstream
    other_router: Callable[[], Awaitable[None]]

    def client(self, key: Key | None = None) -> AsyncOpenAI:
        secret = (key or self.key).secret
        return AsyncOpenAI(base_url=f"{self.site.url}/v1", api_key=secret, max_retries=0)

    async def ask(self, key: Key | None, messages: list[Any], *, is_streaming: bool) -> Any:
        """Return a message, as OpenAI's client has it."""
        fields: Any = {"model": MODEL, "messages": messages, "tools": TOOLS} | self.upstream.extra
        async with self.client(key) as client:
            if not is_streaming:
                return (await client.chat.completions.create(**fields)).choices[0].message
            async with client.chat.completions.stream(**fields) as stream:
                return (await stream.get_final_completion()).choices[0].message

    async def first_turn(self, *, is_streaming: bool = True) -> list[Any]:
        """Let the model call its tools; return the conversation so far, with standard fields."""
        self.upstream.call()
        message = await self.ask(None, [ASK], is_streaming=is_streaming)
        self.upstream.answer()
        said = {name: value for name, value in message.model_dump().items() if name in FIELDS}
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
        assert calls
        said["tool_calls"] = calls
        results = [{"role": "tool", "tool_call_id": c["id"], "content": "ships"} for c in calls]
        return [ASK, said, *results]

    async def is_stored(self) -> None:
        await until(lambda: 'turn_states_total{result="stored"} 1.0' in self.site.metrics())


@pytest.fixture
def nats(nats_server: Callable[[], NatsServer]) -> NatsServer:
    """A nats-server of the test's own."""
    return nats_server()


@pytest.fixture
async def buses(nats: NatsServer) -> AsyncIterator[list[Bus]]:
    """Two connections to one nats-server; they outlive the site."""
    url = nats.url
    async with open_nats_bus(url, name="one") as one, open_nats_bus(url, name="two") as two:
        yield [one, two]


@pytest.fixture(params=sorted(UPSTREAMS))
async def loop(
    buses: list[Bus], open_site: OpenSite, request: pytest.FixtureRequest
) -> AsyncIterator[Loop]:
    async with AsyncExitStack() as stack:
        upstream = await UPSTREAMS[request.param](stack)
        deployment = {
            "name": "only",
            "provider": "one",
            "upstream_model": upstream.model,
            "price": PRICE,
            **upstream.deployment,
        }
        model = {
            "context_length": 200_000,
            "default_max_tokens": 4096,
            "deployments": [deployment],
        }
        wish = Wish(
            bus=buses[0],
            catalogue={"providers": {"one": upstream.provider}, "models": {MODEL: model}},
            router={"turn_state_keys": KEY},
            telemetry=Telemetry(CollectorRegistry()),
        )
        site = await open_site(wish)

        async def other_router() -> None:
            await site.change_router(buses[1])

        yield Loop(site, await site.key(), upstream, other_router)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_client_of_standard_fields_goes_on_at_another_router(
    loop: Loop, is_streaming: bool
) -> None:
    messages = await loop.first_turn(is_streaming=is_streaming)
    await loop.is_stored()
    await loop.other_router()

    message = await loop.ask(None, messages, is_streaming=is_streaming)

    assert message.content
    assert loop.upstream.wanted == loop.upstream.thoughts()[: len(loop.upstream.wanted)]


async def test_state_of_another_account_is_never_found(loop: Loop) -> None:
    messages = await loop.first_turn()
    await loop.is_stored()
    thief = await loop.site.key()

    with contextlib.suppress(BadRequestError):
        await loop.ask(thief, messages, is_streaming=False)

    signed = [thought for thought in loop.upstream.wanted if thought]
    assert not [thought for thought in loop.upstream.thoughts() if thought in signed]


async def test_loop_goes_on_while_nats_is_away_where_the_first_turn_was_seen(
    loop: Loop, nats: NatsServer
) -> None:
    messages = await loop.first_turn()
    nats.freeze()
    try:
        message = await loop.ask(None, messages, is_streaming=False)
    finally:
        nats.thaw()

    assert message.content
    assert loop.upstream.wanted == loop.upstream.thoughts()[: len(loop.upstream.wanted)]


async def test_nothing_that_was_kept_is_logged_or_readable_on_the_bus(
    loop: Loop, nats: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    messages = await loop.first_turn()
    await loop.is_stored()
    await loop.other_router()
    await loop.ask(None, messages, is_streaming=True)
    await loop.site.settled(loop.key, 2)

    out, err = capfd.readouterr()
    logged = json.dumps(loop.site.logged()) + out + err + loop.site.metrics()
    stores = [path for path in nats.store_dir.rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in stores)
    for canary in (THOUGHT, SIGNATURE, "prompt-canary-8814", "Let me think"):
        assert canary not in logged
        assert canary.encode() not in written
    assert any("TURNS" in str(path) for path in stores)
    assert KEY not in logged


@pytest.mark.parametrize("loop", ["anthropic"], indirect=True)
@pytest.mark.parametrize("keeps_thoughts", [True, False])
async def test_client_of_anthropics_api_goes_on_with_signed_thoughts(
    loop: Loop, keeps_thoughts: bool
) -> None:
    loop.upstream.call()
    function = TOOLS[0]["function"]
    own = {"name": "look", "input_schema": function["parameters"]}
    asked: Any = {
        "model": MODEL,
        "max_tokens": 4096,
        "thinking": {"type": "adaptive"},
        "tools": [own],
        "messages": [ASK],
    }

    async def ask() -> Any:
        url = f"{loop.site.url}/v1/messages"
        async with loop.site.http.post(url, json=asked, headers=loop.key.headers) as answer:
            assert 200 == answer.status
            return await answer.json()

    content = (await ask())["content"]
    loop.upstream.answer()
    (use,) = [block for block in content if block["type"] == "tool_use"]
    said = content if keeps_thoughts else [use]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "ships"}
    asked["messages"] += [
        {"role": "assistant", "content": said},
        {"role": "user", "content": [result]},
    ]

    await ask()

    assert loop.upstream.wanted == loop.upstream.thoughts()
