"""The fields of a chat completion beside its messages, as the Messages API has them; pure.

Every field is said, or refused if it asks for something that cannot be said, or told to have been
left aside. One that nobody here knows comes only where the deployment's owner lets such through:
it is sent on as it came. Source: Anthropic API reference, `Create a Message`; its limits are those
of anthropic-sdk-python 2.14 (read 2026-11).
"""

from typing import Any, Final

import msgspec

from services.router.constraints import CONSTRAINTS
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body
from services.router.providers.refusals import rejected, unsupported
from services.router.providers.unsaid import asks_nothing

USER_ID_CHARS_MAX: Final = 256
"""Longest name of a user that is taken."""

TEMPERATURE_MAX: Final = 1.0
SAMPLING: Final = ("sent", "refused", "ignored")
"""The option `sampling`, what is done with how tokens are to be chosen; the first is the usual."""

_CANNOT: Final = (
    frozenset({"logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias"})
    | {"min_p", "min_tokens", "stop_token_ids", "include_stop_str_in_output", "ignore_eos"}
    | {"bad_words", "functions", "prediction", "audio", "web_search_options", "chat_template"}
    | {"n", "repetition_penalty", "skip_special_tokens", "function_call", "modalities"}
    | {"mm_processor_kwargs"}
)
"""What cannot be said here."""

_SAID: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    | {"temperature", "top_p", "top_k", "stop", "user", "safety_identifier", "service_tier"}
    | {"tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "chat_template_kwargs"}
)
_LEFT_ASIDE: Final = frozenset(
    {"seed", "metadata", "prompt_cache_key", "prompt_cache_retention", "store", "verbosity"}
    | {"include_reasoning", "reasoning"}
)
KNOWN: Final = _SAID | _LEFT_ASIDE | _CANNOT | CONSTRAINTS
"""Every field that something is known of; the others are sent on."""

_TIERS: Final = {"auto": "auto", "default": "standard_only"}
_NULL: Final = msgspec.Raw(b"null")


def read_field(body: Body, name: str, kind: Any) -> Any:  # noqa: ANN401 - any msgspec type
    """Return a field as a type of msgspec's, None when it is absent or null.

    Raises:
        ProviderError: REJECTED, with `param`: it is something else.
    """
    raw = body.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except JUNK:
        raise rejected(name, "cannot be read") from None


def check_fields(body: Body) -> None:
    """Refuse what asks for something that cannot be said.

    Raises:
        ProviderError: UNSUPPORTED, with `param`.
    """
    for name in body.keys() & _CANNOT:
        if not asks_nothing(name, bytes(body[name])):
            raise unsupported(name)


def left_aside(body: Body) -> list[str]:
    """Return the best-effort fields that mean nothing here."""
    return [name for name in sorted(_LEFT_ASIDE) if body.get(name, _NULL) != _NULL]


def put_sampling(request: dict[str, object], body: Body, mode: str) -> list[str]:
    """Put in how tokens are chosen and where they end; return the names of what is left aside.

    A value that is the API's default is left out: models from 4.7 on take no other, and version
    2026-10-21 of the API not even that. `mode` is what is done with others, one of `SAMPLING`.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    chosen = _chosen(body)
    if mode == "refused" and chosen:
        raise unsupported(min(chosen), "differs from 1, which this deployment does not take")
    if mode != "ignored":
        request |= chosen
    stops = read_field(body, "stop", str | list[str])
    if stops:
        stops = [stops] if isinstance(stops, str) else stops
        if not all(map(str.strip, stops)):
            raise unsupported("stop", "holds nothing but white space, which ends no answer here")
        request["stop_sequences"] = stops
    return list(chosen) if mode == "ignored" else []


def _chosen(body: Body) -> dict[str, object]:
    """Return how tokens are chosen, where that is not as usual."""
    found: dict[str, object] = {}
    temperature = read_field(body, "temperature", float)
    if temperature is not None and temperature != TEMPERATURE_MAX:
        if temperature > TEMPERATURE_MAX:
            raise unsupported("temperature", f"is {temperature}; this deployment takes 0 to 1")
        found["temperature"] = body["temperature"]
    top_p = read_field(body, "top_p", float)
    if top_p is not None and top_p != 1:
        found["top_p"] = body["top_p"]
    top_k = read_field(body, "top_k", float)
    if top_k is not None and top_k > 0:
        found["top_k"] = int(top_k)
    return found


def put_account(request: dict[str, object], body: Body) -> list[str]:
    """Put in for whom a request is and how urgent; return the names of what is left aside.

    Raises:
        ProviderError: REJECTED, with `param`.
    """
    ignored: list[str] = []
    for name in ("user", "safety_identifier"):
        user_id = read_field(body, name, str)
        if not user_id:
            continue
        if "metadata" in request or len(user_id) > USER_ID_CHARS_MAX:
            ignored.append(name)
        else:
            request["metadata"] = {"user_id": user_id}
    tier = read_field(body, "service_tier", str)
    if tier in _TIERS:
        request["service_tier"] = _TIERS[tier]
    elif tier is not None:
        ignored.append("service_tier")
    return ignored


def unknown_fields(body: Body) -> dict[str, msgspec.Raw]:
    """Return the fields that nobody here knows."""
    return {name: raw for name, raw in body.items() if name not in KNOWN}
