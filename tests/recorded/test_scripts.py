"""Every answer has OpenAI's form, however its upstream frames, counts and ends it."""

from typing import Any

import pytest

from tests.fixtures.gateway import Key, Site
from tests.recorded.asks import check_stream, recorded
from tests.recorded.forms import check

VARIANTS = (
    "shape=c4-d0",
    "fake=usage:never",
    "fake=usage:null",
    "fake=usage:finish",
    "fake=usage:every",
    "fake=usage:twice",
    "fake=usage:zero",
    "fake=usage:nototal",
    "fake=finish:with_content",
    "fake=finish:with_content;usage:never",
    "fake=role:never",
    "fake=keys:sorted",
    "fake=keys:spaced",
    "fake=keys:drifting",
    "fake=split:7",
    "fake=joined:1;line:crlf",
    "fake=comments:2;multiline:1",
    "fake=reason:length",
    "fake=reason:content_filter",
    "fake=blank:3;done:0",
)


@pytest.fixture
async def key(scripted: Site) -> Key:
    return await scripted.key(requests_per_minute=0, tokens_per_minute=0)


def bodies_of(prompt: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the requests of a prompt, by their kinds; it is as long as its upstream counts."""
    prompt = f"Why is the sea salty, and what of rivers? {prompt}"
    return {
        "chat": (
            "/chat/completions",
            {"model": "chat", "messages": [{"role": "user", "content": prompt}]},
        ),
        "text": ("/completions", {"model": "completion", "prompt": prompt}),
    }


@pytest.mark.parametrize("prompt", VARIANTS)
async def test_every_framing_becomes_openais(prompt: str, scripted: Site, key: Key) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
    ]
    for kind, (path, body) in bodies_of(prompt).items():
        for option in options:
            found, _ = await recorded(scripted, key, path, {**body, **option}, kind=kind)
            for one in found:
                check(one)
            if option:
                check_stream(found)
    await scripted.settled(key, 6)


async def test_every_text_completion_is_openais(scripted: Site, key: Key) -> None:
    for more in ({"echo": True}, {"n": 2}, {"prompt": ["a", "b"]}, {"prompt": [1, 2]}):
        body = {"model": "completion", "prompt": "a", "max_tokens": 5, **more}
        found, _ = await recorded(scripted, key, "/completions", body, kind="text")
        check(found[0])


async def test_every_embedding_is_openais(scripted: Site, key: Key) -> None:
    inputs: list[Any] = ["one", ["one", "two"], [1, 2, 3], [[1], [2, 3]], "fake=usage:never"]
    for given in inputs:
        body = {"model": "embedding", "input": given, "encoding_format": "float"}
        found, _ = await recorded(scripted, key, "/embeddings", body, kind="embeddings")
        check(found[0])
