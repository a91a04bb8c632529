"""A request as an OpenAI-compatible upstream gets it; pure."""

from typing import Final

import msgspec

from services.router.providers.constraint_fields import put_constraint
from services.router.providers.openai.content import PROMPT_FIELDS, put_prompt_fields
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body, Call

_number: Final = msgspec.json.Decoder(int | float)


def encode_request(call: Call, body: Body, *, max_tokens_field: str) -> bytes:
    """Return the request as the upstream gets it.

    Raises:
        ProviderError: UNSUPPORTED: the upstream cannot keep to the request's constraint.
    """
    request: dict[str, object] = dict(body)
    request.pop("stream_options", None)
    request.pop("max_tokens", None)
    request.pop("max_completion_tokens", None)
    request["model"] = call.adapter or call.upstream_model
    request["stream"] = call.is_streaming
    request[max_tokens_field] = call.max_tokens
    if call.is_streaming:
        request["stream_options"] = {"include_usage": True}
    if not PROMPT_FIELDS.isdisjoint(request):
        put_prompt_fields(call, request)
    if call.constraint is not None:
        put_constraint(request, call.constraint, call.options.get("engine", "openai"))
    return msgspec.json.encode(request)


def choice_count(body: Body) -> int:
    """Return how many choices the request asks for."""
    raw = body.get("n")
    try:
        return max(1, int(_number.decode(raw))) if raw is not None else 1
    except JUNK:
        return 1
