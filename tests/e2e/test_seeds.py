"""The seeds' samples as readers would run them: curl, Python and Node, on a whole site."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.e2e import seeds
from tests.fakes.openai_model import OpenAiModel
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import UUID7, answer_of, events_of

RUN_S = 30.0


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=seeds.catalogue(model)))


async def run(*command: str, folder: Path | None = None) -> str:
    """Run a command to its good end and return what it wrote."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=folder)
    try:
        async with asyncio.timeout(RUN_S):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, error.decode()
    return out.decode()


async def curl(command: str, replaced: dict[str, str]) -> str:
    """Run a curl command of a seed."""
    for old, new in replaced.items():
        assert old in command, (old, command)
        command = command.replace(old, new)
    return await run("bash", "-c", command.replace("curl ", "curl -sS --fail-with-body ", 1))


def bud(site: Site, key: Key) -> dict[str, str]:
    return {"http://localhost:3000": site.url, "YOUR_API_KEY": key.secret}


async def test_seeds_are_the_ones_that_were_given() -> None:
    assert [2, 4] == [len(seeds.curls("002")), len(seeds.curls("003"))]
    assert 4 == len(seeds.python())


@pytest.mark.parametrize("number", ["000", "001"])
async def test_vram_request_and_answer(number: str, site: Site) -> None:
    key = await site.key(dialect="vram")
    headings = ("Request\n", "Response") if number == "000" else ("Request", "Response")
    body = json.loads(seeds.json_between(number, *headings))

    whole = await answer_of(site.post(key, body))
    del body["stream"]
    stream = await answer_of(site.post(key, body))

    assert seeds.SPOKEN == whole.json["choices"][0]["message"]["content"]
    assert "qwen/qwen3.5-9b" == whole.json["model"]
    *chunks, done = events_of(stream.body)
    assert "[DONE]" == done
    assert "text/event-stream; charset=utf-8" == stream.headers["Content-Type"]
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= set(chunks[-1]["usage"])
    assert ({}, "stop") == (
        chunks[-1]["choices"][0]["delta"],
        chunks[-1]["choices"][0]["finish_reason"],
    )


async def test_vram_defaults_reach_the_upstream(site: Site, model: OpenAiModel) -> None:
    key = await site.key(dialect="vram")
    body = {"model": "qwen/qwen3.5-9b", "messages": [{"role": "user", "content": "Hello"}]}

    await answer_of(site.post(key, body))

    sent = model.seen[-1]
    assert (True, 4096, 1.0) == (sent["stream"], sent["max_tokens"], sent["temperature"])
    assert "top_p" not in sent


async def test_infer_curls(site: Site, model: OpenAiModel) -> None:
    key = await site.key()
    replaced = {"https://inferexchange.com": site.url, "sk-infer-YOUR_KEY": key.secret}
    plain, stream = seeds.curls("002")

    whole = json.loads(await curl(plain, replaced))
    events = events_of((await curl(stream, replaced)).encode())

    assert ("chat.completion", "llama-3.1-8b") == (whole["object"], whole["model"])
    assert (0.7, 500, 1.0) == tuple(
        model.seen[0][name] for name in ("temperature", "max_tokens", "top_p")
    )
    assert seeds.SPOKEN == "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
    assert 2 == len(await site.settled(key, 2))


async def test_bud_basic_curl(site: Site) -> None:
    key = await site.key(dialect="bud")

    answer = json.loads(await curl(seeds.curls("003")[0], bud(site, key)))

    assert UUID7.fullmatch(answer["id"])
    assert UUID7.fullmatch(answer["episode_id"])
    assert ("qwen_3_4b", "chat.completion") == (answer["model"], answer["object"])
    assert [] == answer["choices"][0]["message"]["tool_calls"]
    assert {"system_fingerprint", "service_tier", "usage", "created"} <= set(answer)


async def test_bud_tool_curl(site: Site, model: OpenAiModel) -> None:
    key = await site.key(dialect="bud")

    answer = json.loads(await curl(seeds.curls("003")[1], bud(site, key)))

    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert ("get_weather", {"location": "Paris"}) == (
        call["function"]["name"],
        json.loads(call["function"]["arguments"]),
    )
    assert "tool_calls" == answer["choices"][0]["finish_reason"]
    assert "Get weather information" == model.seen[-1]["tools"][0]["function"]["description"]


async def test_bud_guided_json_curl(site: Site, model: OpenAiModel) -> None:
    key = await site.key(dialect="bud")

    answer = json.loads(await curl(seeds.curls("003")[2], bud(site, key)))

    assert {"name", "age"} <= set(json.loads(answer["choices"][0]["message"]["content"]))
    assert "guided_json" not in model.seen[-1]
    assert ["name", "age"] == model.seen[-1]["structured_outputs"]["json"]["required"]


async def test_bud_multi_modal_curl(site: Site, model: OpenAiModel) -> None:
    key = await site.key(dialect="bud")
    replaced = {**bud(site, key), "/9j/4AAQSkZJRg...": seeds.JPEG}

    answer = json.loads(await curl(seeds.curls("003")[3], replaced))

    assert "stop" == answer["choices"][0]["finish_reason"]
    blocks = model.seen[-1]["messages"][0]["content"]
    assert ["text", "image_url"] == [block["type"] for block in blocks]
    assert "data:image/jpeg;base64," + seeds.JPEG == blocks[1]["image_url"]["url"]


async def test_runinfra_python(site: Site, model: OpenAiModel, tmp_path: Path) -> None:
    key = await site.key(dialect="runinfra")
    request, stream, tools, structured = seeds.python()
    request = request.replace("https://api.runinfra.ai/v1", f"{site.url}/v1")
    request = request.replace("YOUR_RUNINFRA_API_KEY", key.secret)
    shown = "print()\nprint(tool_call.function.name, tool_call.function.arguments)"
    last = "print(resp.choices[0].message.content)"
    (tmp_path / "sample.py").write_text(
        "\n".join([request, stream, tools, shown, structured, last])
    )

    spoken = await run(sys.executable, "sample.py", folder=tmp_path)

    assert [seeds.SPOKEN, seeds.SPOKEN, 'get_weather {"city": "Paris"}'] == spoken.splitlines()[:3]
    assert isinstance(json.loads(spoken.splitlines()[3]), dict)
    assert [512, 512, 512, 512] == [sent["max_tokens"] for sent in model.seen]
    assert [(1.0, 1.0)] * 4 == [(sent["temperature"], sent["top_p"]) for sent in model.seen]
    assert 4 == len(await site.settled(key, 4))


async def test_runinfra_headers(site: Site) -> None:
    key = await site.key(dialect="runinfra", requests_per_minute=500)
    body = {"model": "llama-3.3-70b", "messages": [{"role": "user", "content": "x"}]}

    answer = await answer_of(site.post(key, body))

    assert ("hf/upstream", "llama-3.3-70b", "500", "499", "runpod-vllm") == tuple(
        answer.headers[f"X-{name}"]
        for name in (
            "Model-Used",
            "Route-Model",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "Backend",
        )
    )
