"""How soon a client's close reaches a real Triton: `make bench-micro`.

    python bench/cancel.py                       20 cuts through the whole product, over gRPC

A proxy in front of Triton's gRPC port notes the cancel frame (RST_STREAM, RFC 9113 section 6.4);
the paced model writes down how many tokens it made, the client how many it had when it closed.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen"), str(ROOT / "bench")]

from run import BIN, SITE, free_port, make_key, nats  # noqa: E402

from tests.fixtures.triton import Triton, running_triton  # noqa: E402

CUTS = 20
TOKENS_FIRST = 10
WAIT_S = 5.0
PREFACE = 24
RST_STREAM = 3
SETTINGS = SITE + """
catalogue:
  providers:
    gpu: {{kind: triton, grpc_address: "127.0.0.1:{proxy_port}"}}
  models:
    tiny-paced:
      context_length: 4096
      deployments:
        - name: gpu
          provider: gpu
          upstream_model: tiny-paced
          chat_template: {template}
          price: {{input_usd_per_million: "0.10", output_usd_per_million: "0.40"}}
"""
TEMPLATE = ROOT / "examples/triton/models/tiny-chat/1/tokenizer_config.json"


class Cancels:
    """The moments at which a cancel frame passed."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[float] = asyncio.Queue()

    def read(self, buffer: bytearray) -> None:
        """Take whole frames off the buffer."""
        while len(buffer) >= 9:
            size = 9 + int.from_bytes(buffer[:3], "big")
            if len(buffer) < size:
                return
            if buffer[3] == RST_STREAM:
                self.seen.put_nowait(time.monotonic())
            del buffer[:size]


@asynccontextmanager
async def proxy(port: int, target: str, cancels: Cancels) -> AsyncIterator[None]:
    """Carry connections to `target` and show `cancels` what clients send."""
    host, _, target_port = target.rpartition(":")

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_watched: bool
    ) -> None:
        buffer, skipped = bytearray(), 0 if is_watched else -1
        while data := await reader.read(65_536):
            writer.write(data)
            if is_watched:
                buffer += data
                if skipped < PREFACE and len(buffer) >= PREFACE:
                    del buffer[:PREFACE]
                    skipped = PREFACE
                if skipped == PREFACE:
                    cancels.read(buffer)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(host, int(target_port))
        await asyncio.gather(
            carry(reader, up_writer, is_watched=True), carry(up_reader, writer, is_watched=False)
        )

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield


async def cut(port: int, key: str, seed: int) -> tuple[int, float]:
    """Read some tokens of a stream, close, and return how many came and when it was closed."""
    body = json.dumps(
        {
            "model": "tiny-paced",
            "stream": True,
            "seed": seed,
            "max_tokens": 200,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Why is the sea salty?"}],
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    data = b""
    while data.count(b'"content":"') < TOKENS_FIRST:
        more = await asyncio.wait_for(reader.read(65_536), WAIT_S)
        if not more:
            raise RuntimeError(data[:500].decode(errors="replace"))
        data += more
    writer.close()
    return data.count(b'"content":"'), time.monotonic()


async def measure(server: Triton, work: Path) -> None:
    ports = {name: free_port() for name in ("port", "admin_port", "nats_port", "proxy_port")}
    config = work / "turnpike.yaml"
    config.write_text(SETTINGS.format(work=work, template=TEMPLATE, **ports))
    bus, cancels = nats(work, ports["nats_port"]), Cancels()
    try:
        async with proxy(ports["proxy_port"], server.grpc_address, cancels):
            key = await asyncio.to_thread(make_key, config, work / "state")
            with (work / "turnpike.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    BIN / "turnpike", "serve", "--config", config, stdout=log, stderr=log
                )
            try:
                await until_open(ports["port"])
                waits_ms, further = await cuts(ports["port"], key, server, cancels)
            finally:
                process.terminate()
                await process.wait()
    finally:
        bus.terminate()
        bus.wait()
    print("| cuts | cancel frame after close, ms: median | longest | further tokens: most |")
    print(f"|---|---|---|---|\n| {CUTS} | {median(waits_ms):.1f} | {max(waits_ms):.1f} | ", end="")
    print(f"{max(further)} |")


async def until_open(port: int) -> None:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("Turnpike does not listen.")


async def cuts(
    port: int, key: str, server: Triton, cancels: Cancels
) -> tuple[list[float], list[int]]:
    waits_ms, further = [], []
    for number in range(CUTS):
        seed = 7_000 + number
        count, closed_s = await cut(port, key, seed)
        seen_s = await asyncio.wait_for(cancels.seen.get(), WAIT_S)
        waits_ms.append((seen_s - closed_s) * 1000)
        # Twice as long as eight more tokens would take.
        await asyncio.sleep(0.32)
        further.append(server.journal(seed)[0] - count)
    return waits_ms, further


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_triton(Path(folder)) as server:
        asyncio.run(measure(server, Path(folder)))


if __name__ == "__main__":
    main()
