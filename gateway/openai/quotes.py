"""What a quote is asked for: a chat completion's body, or a model with bounds; pure."""

from typing import Final

import msgspec

from gateway.call import Bounds, ModelCall, ReadRules
from gateway.openai.bodies import parse_json
from gateway.openai.chat import ChatApi
from gateway.openai.envelope import TOKENS_MAX
from gateway.openai.figures import Whole, whole, wrong
from gateway.openai.schema import ModelName
from kit.money import format_usd, format_usd_of_pusd
from turnpike.type.v1 import usage_pb2


class QuoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/quotes` with bounds in place of a conversation."""

    model: ModelName
    prompt_tokens_max: Whole = 0
    completion_tokens_max: Whole = 0
    unit_count_max: Whole = 0


class _Shape(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw(b"")


class QuoteApi(ChatApi):
    """`POST /v1/quotes`; an object of it reads one request and keeps the bounds that it gave."""

    route = "POST /v1/quotes"

    def __init__(self) -> None:
        self.bounds: Bounds | None = None
        self.unit_count_max = 0

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Return what a request like it would ask.

        Raises:
            TurnpikeError: 400, with `param` naming the field.
        """
        if bytes(parse_json(body, _decode_shape).messages):
            call = _read_chat(body, rules)
            if call.fallback_models:
                raise wrong("models", "models cannot be quoted together; ask for one quote each.")
            return call
        asked = parse_json(body, _decode)
        figures = (asked.prompt_tokens_max, asked.completion_tokens_max, asked.unit_count_max)
        names = ("prompt_tokens_max", "completion_tokens_max", "unit_count_max")
        prompt, completion, units = (
            whole(name, value, 0, TOKENS_MAX) for name, value in zip(names, figures, strict=True)
        )
        self.bounds = Bounds(completion, prompt, completion)
        self.unit_count_max = units
        return ModelCall(
            model=asked.model,
            fields={},
            is_streaming=False,
            include_usage=None,
            asked_max_tokens=None,
            timeout_ms=rules.timeout_max_ms,
            prompt_bytes=0,
        )


_read_chat: Final = ChatApi.read
_decode: Final = msgspec.json.Decoder(QuoteRequest).decode
_decode_shape: Final = msgspec.json.Decoder(_Shape).decode


def quoted(
    price: usage_pb2.Price, *, quote_id: str, expires_at: int, most_nusd: int
) -> dict[str, object]:
    """Return the fields of a quote's answer but for its model; `expires_at` is Unix seconds."""
    prices: dict[str, object] = {
        "input_usd_per_token": format_usd_of_pusd(price.input_pusd_per_token),
        "output_usd_per_token": format_usd_of_pusd(price.output_pusd_per_token),
        "request_usd": format_usd_of_pusd(price.request_pusd),
    }
    if price.unit:
        prices |= {"unit": price.unit, "usd_per_unit": format_usd_of_pusd(price.unit_pusd)}
    return {
        "id": quote_id,
        "object": "quote",
        "expires_at": expires_at,
        "pricing": prices,
        "cost_usd_max": format_usd(most_nusd),
    }
