"""What a streamed chunk costs by wire format, CPU µs: `make bench-micro`.

    python bench/translated.py         one text chunk in each read, from bytes to the batch

`over` is what a chunk costs above one that is forwarded as OpenAI sent it. Each figure is the best
of seven runs of one stream with 4,000 chunks; the formats take turns, so that a busy machine costs
them alike.
"""

import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

from services.router.providers.anthropic.stream import AnthropicTranslator  # noqa: E402
from services.router.providers.aws.converse_answer import ConverseTranslator  # noqa: E402
from services.router.providers.google.gemini_answer import GeminiStream  # noqa: E402
from services.router.providers.openai.forward import StreamForwarder  # noqa: E402
from services.router.providers.port import Call  # noqa: E402

CHUNKS = 4_000
ROUNDS = 7
HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m",'
CALL = Call(
    request_id="1",
    answer_id="chatcmpl-1",
    create_unix_s=7,
    model_id="m",
    upstream_model="up",
    is_streaming=True,
    max_tokens=8_192,
    chunk_head=HEAD,
    idle_s=1.0,
)


def sse(data: Any, name: str = "") -> bytes:
    """Return one server-sent event."""
    event = f"event: {name}\n" if name else ""
    return f"{event}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def frame(name: str, payload: Any) -> bytes:
    """Return one message of an AWS event stream."""
    headers = b""
    for key, value in (
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(key)]) + key.encode() + b"\7" + struct.pack(">H", len(value))
        headers += value.encode()
    body = json.dumps(payload, separators=(",", ":")).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def openai_reads() -> list[bytes]:
    """Return a stream as OpenAI's API writes it, with the role first."""
    identity = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "up"}

    def chunk(delta: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return sse({**identity, "choices": [choice]})

    return [chunk({"role": "assistant", "content": ""})] + [
        chunk({"content": f"tok{number} "}) for number in range(CHUNKS)
    ]


def anthropic_reads() -> list[bytes]:
    """Return a stream as the Messages API writes it."""
    usage = {"input_tokens": 12, "output_tokens": 1}
    start = {"type": "message_start", "message": {"type": "message", "usage": usage}}
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    return [
        sse(start, "message_start") + sse(block, "content_block_start"),
        *(
            sse(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": f"tok{number} "},
                },
                "content_block_delta",
            )
            for number in range(CHUNKS)
        ),
    ]


def gemini_reads() -> list[bytes]:
    """Return a stream as Gemini's API writes it: running totals in every chunk."""
    return [
        sse(
            {
                "candidates": [
                    {"content": {"parts": [{"text": f"tok{number} "}], "role": "model"}, "index": 0}
                ],
                "usageMetadata": {
                    "promptTokenCount": 12,
                    "candidatesTokenCount": number + 1,
                    "totalTokenCount": number + 13,
                },
                "modelVersion": "gemini",
            }
        )
        for number in range(CHUNKS + 1)
    ]


def bedrock_reads() -> list[bytes]:
    """Return a stream as Bedrock's ConverseStream writes it."""
    return [frame("messageStart", {"role": "assistant"})] + [
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f"tok{number} "}})
        for number in range(CHUNKS)
    ]


FORMATS: dict[str, tuple[Callable[[], Any], list[bytes]]] = {
    "openai, forwarded": (lambda: StreamForwarder(CALL, choice_count=1), openai_reads()),
    "anthropic": (lambda: AnthropicTranslator(CALL), anthropic_reads()),
    "gemini": (lambda: GeminiStream(CALL), gemini_reads()),
    "bedrock": (
        lambda: ConverseTranslator(CALL, family="anthropic", answer_tool=""),
        bedrock_reads(),
    ),
}


def measured(make: Callable[[], Any], reads: list[bytes]) -> float:
    """Return what a chunk costs in one run, µs."""
    translator, events = make(), 0
    for read in reads[:1]:
        translator.feed(read)
    start_s = time.process_time()
    for read in reads[1:]:
        events += translator.feed(read).content_event_count
    spent_s = time.process_time() - start_s
    if events != CHUNKS:
        raise SystemExit(f"{events} chunks had content, not {CHUNKS}.")
    return 1e6 * spent_s / CHUNKS


def main() -> None:
    """Print the table."""
    best = dict.fromkeys(FORMATS, float("inf"))
    for _ in range(ROUNDS):
        for name, (make, reads) in FORMATS.items():
            best[name] = min(best[name], measured(make, reads))
    base = best["openai, forwarded"]
    print("| stream | µs/chunk | over |")
    print("|---|---|---|")
    for name, cost in best.items():
        print(f"| {name} | {cost:.2f} | {cost - base:.2f} |")


if __name__ == "__main__":
    main()
