"""Chat chunks and completions as the router sends them."""

import json
from typing import Any

from tests.fakes.openai_calls import CHUNK_HEAD
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

REQUEST_ID = "0192d3a0-7c00-7000-8000-000000000001"
USAGE = usage_pb2.TokenUsage(
    prompt_token_count=12,
    completion_token_count=7,
    cached_prompt_token_count=4,
    reasoning_token_count=3,
)
USAGE_JSON = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def chunk(delta: dict[str, Any]) -> bytes:
    """Return one event; `logprobs` and `tier` are taken out of the delta."""
    return b"data: %b\n\n" % _json(dict(delta), None)


def finish(reason: str = "stop") -> router_pb2.Finish:
    """Return the end of a good answer."""
    return router_pb2.Finish(
        finish_chunks=[_json({}, reason)],
        chunk_head=CHUNK_HEAD,
        usage_json=json.dumps(USAGE_JSON).encode(),
        usage=USAGE,
        finish_reason=reason,
    )


def completion(message: dict[str, Any], reason: str = "stop", **more: Any) -> bytes:
    """Return a whole answer; `logprobs` is taken out of the message."""
    message = dict(message)
    choice = {"index": 0, "logprobs": message.pop("logprobs", None), "finish_reason": reason}
    answer = {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "ours/model",
        "choices": [{**choice, "message": {"role": "assistant", **message}}],
        "usage": USAGE_JSON,
        **more,
    }
    return json.dumps(answer).encode()


def _json(delta: dict[str, Any], reason: str | None) -> bytes:
    logprobs, tier = delta.pop("logprobs", None), delta.pop("tier", None)
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    tail = b"" if tier is None else b',"service_tier":' + json.dumps(tier).encode()
    return b'%b"choices":[%b]%b}' % (CHUNK_HEAD, json.dumps(choice).encode(), tail)
