"""Images that a request names by URL, fetched for Bedrock, which only takes bytes."""

import base64
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from kit.clock import SystemClock
from services.router.aws_adapters import open_bedrock
from services.router.aws_entries import BedrockEntry
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.aws_calls import ask
from tests.fakes.aws_server import API_KEY, REGION
from tests.fakes.bedrock_upstream import open_bedrock_upstream
from tests.fakes.image_host import IMAGE, open_image_host
from tests.fixtures.tls import certificate, server_context

NAME = "img.example.com"
CALLED = {
    "role": "assistant",
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ],
}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


async def test_image_by_url_is_fetched_wherever_it_stands(tmp_path: Path) -> None:
    files = certificate(tmp_path, name=NAME)
    async with (
        open_image_host(server_context(files)) as host,
        open_bedrock_upstream() as upstream,
        open_http_pool(HttpLimits()) as pool,
    ):
        rules = FetchRules(
            ports=frozenset({host.port}),
            networks=(ip_network("127.0.0.0/8"),),
            ca_file=str(files[0]),
            total_s=30.0,
        )
        fetcher = ImageFetcher(rules, resolve=lambda _host, _port: ["127.0.0.1"])
        usual = {"kind": "bedrock", "region": REGION, "api_key": API_KEY}
        entry = BedrockEntry.model_validate({**usual, "base_url": upstream.base_url})
        image: Any = {"type": "image_url", "image_url": {"url": host.url("/a.png")}}
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "what"}, image]},
            CALLED,
            {"role": "tool", "tool_call_id": "a", "content": [image]},
        ]

        async with open_bedrock(entry, pool=pool, fetcher=fetcher, clock=SystemClock()) as provider:
            call = {"upstream_model": "anthropic.claude"}
            await ask(provider, call=call, messages=messages, tools=TOOLS)
        fetcher.close()

    first, _, second = upstream.seen[0].body["messages"]
    sent = {"format": "png", "source": {"bytes": base64.b64encode(IMAGE).decode()}}
    assert {"image": sent} == first["content"][1]
    assert [{"image": sent}] == second["content"][0]["toolResult"]["content"]
