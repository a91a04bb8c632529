"""What a token from a real Triton costs the router, by transport: `make bench-micro`.

    python bench/triton.py                       32 paced streams of the tiny model, gRPC and HTTP

CPU is the user and system time of this process, which runs the provider alone; Triton runs beside
it.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

import msgspec  # noqa: E402
import uvloop  # noqa: E402

from kit.clock import SystemClock  # noqa: E402
from services.router.providers.port import Call  # noqa: E402
from services.router.providers.triton.adapter import open_triton  # noqa: E402
from services.router.providers.triton.port import TritonConfig  # noqa: E402
from services.router.template import load_chat_template  # noqa: E402
from tests.fixtures.triton import Triton, running_triton  # noqa: E402

STREAMS = 32
TOKENS = 250
TEMPLATE = ROOT / "examples/triton/models/tiny-chat/1/tokenizer_config.json"


def call(number: int) -> Call:
    return Call(
        request_id=f"r{number}",
        answer_id=f"chatcmpl-{number}",
        create_unix_s=1_760_000_000,
        model_id="tiny",
        upstream_model="tiny-paced",
        is_streaming=True,
        max_tokens=TOKENS,
        chunk_head=b'{"id":"x","object":"chat.completion.chunk","created":1,"model":"tiny",',
        idle_s=30.0,
    )


def body() -> dict[str, msgspec.Raw]:
    text = b'[{"role":"user","content":"Why is the sea salty?"}]'
    return {"messages": msgspec.Raw(text), "ignore_eos": msgspec.Raw(b"true")}


async def measure(server: Triton, transport: str) -> tuple[float, int]:
    config = TritonConfig(
        model_name="tiny-paced",
        template=load_chat_template(TEMPLATE, clock=SystemClock()),
        grpc_address=server.grpc_address,
        http_address=server.http_address,
        transport=transport,  # type: ignore[arg-type]
    )
    loop = asyncio.get_running_loop()
    tokens = 0

    async def one(number: int) -> None:
        nonlocal tokens
        async for batch in provider.stream(call(number), body(), deadline_s=loop.time() + 30):
            if batch.HasField("finish"):
                tokens += batch.finish.usage.completion_token_count

    async with open_triton(config) as provider:
        await one(0)
        tokens, before = 0, time.process_time()
        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                group.create_task(one(number))
        return (time.process_time() - before) * 1e6 / tokens, tokens


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_triton(Path(folder)) as server:
        print("| transport | CPU µs/token, paced | tokens |\n|---|---|---|")
        for transport in ("grpc", "http") * 2:
            cost, tokens = uvloop.run(measure(server, transport))
            print(f"| {transport} | {cost:.1f} | {tokens} |", flush=True)


if __name__ == "__main__":
    main()
