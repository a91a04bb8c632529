"""The fake upstream as a process of its own: the journal is the oracle of fault tests."""

import asyncio
import json
import sys
from pathlib import Path

from kit.clock import SystemClock
from services.router.providers.openai.compat import OpenAiCompatSettings, open_openai_compat
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.openai_calls import make_body, make_call

ROOT = Path(__file__).parents[3]


async def test_process_journals_requests_usage_and_ends(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.openai_upstream",
        "--journal",
        str(journal),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["port"]
        settings = OpenAiCompatSettings(base_url=f"http://127.0.0.1:{port}/v1")
        async with (
            open_http_pool(HttpLimits()) as pool,
            open_openai_compat(settings, pool=pool, clock=SystemClock()) as provider,
        ):
            deadline_s = asyncio.get_running_loop().time() + 20
            body = make_body("shape=c4-d1 prompt=9 use=max")
            batches = [b async for b in provider.stream(make_call(), body, deadline_s=deadline_s)]
            async with asyncio.timeout(10):
                while b'"end"' not in journal.read_bytes():
                    await asyncio.sleep(0.01)
    finally:
        process.kill()
        await process.wait()

    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert ["request", "usage", "end"] == [event["event"] for event in events]
    assert "shape=c4-d1" in events[0]["body"]["messages"][0]["content"]
    assert (9, 100) == (
        events[1]["usage"]["prompt_tokens"],
        events[1]["usage"]["completion_tokens"],
    )
    assert (4, True, False) == (
        events[2]["chunks_sent"],
        events[2]["is_complete"],
        events[2]["is_aborted"],
    )
    assert 100 == batches[-1].finish.usage.completion_token_count
