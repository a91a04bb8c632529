"""A chat completion as a Gemini request; pure.

Source: Gemini API reference, generateContent and GenerationConfig (read 2026-11).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.google import gemini_thinking, gemini_tools
from services.router.providers.google.gemini_contents import contents_of, is_cache_marked, system_of
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body, Call
from services.router.providers.refusals import rejected, unsupported
from services.router.providers.turns import Dialogue, File, read_dialogue
from services.router.providers.unsaid import unsaid, unsaid_of_messages

STOPS_MAX: Final = 5
_SEED_MAX: Final = 2**31 - 1
_SAID: Final = (
    frozenset({"temperature", "top_p", "top_k", "stop", "seed"})
    | {"presence_penalty", "frequency_penalty"}
    | gemini_thinking.FIELDS
    | gemini_tools.FIELDS
)


class _Sampling(msgspec.Struct):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | float | None = None
    stop: str | list[str] | None = None
    seed: int | float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


_sampling: Final = msgspec.json.Decoder(_Sampling).decode


class GeminiRequest(NamedTuple):
    """A request's body, and the fields that were left aside."""

    body: bytes
    ignored: tuple[str, ...]


def encode_gemini(
    call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]
) -> GeminiRequest:
    """Return the request as Gemini gets it.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    ignored = set(unsaid(body, _SAID))
    dialogue = read_dialogue(body, fetched)
    configured = call.options.get("thinking", "")
    thinking = gemini_thinking.thinking_of(body, call.upstream_model, configured)
    ignored.update(thinking.ignored, _lost(body, dialogue))
    # Models of the third generation do so, and only they call tools in a constrained answer.
    way = gemini_thinking.thinking_way(call.upstream_model, configured)
    is_third = way == gemini_thinking.LEVEL
    request: dict[str, Any] = {"contents": contents_of(dialogue, needs_signatures=is_third)}
    if (system := system_of(dialogue)) is not None:
        request["systemInstruction"] = system
    tools = gemini_tools.tool_fields(body)
    config = _generation_config(call, body, ignored)
    if thinking.config is not None:
        config["thinkingConfig"] = thinking.config
    if call.constraint is not None:
        has_tools = bool(tools) and not is_third
        config |= gemini_tools.format_fields(call.constraint, has_tools=has_tools)
    request |= tools
    request["generationConfig"] = config
    return GeminiRequest(msgspec.json.encode(request), tuple(sorted(ignored)))


def _generation_config(call: Call, body: Body, ignored: set[str]) -> dict[str, Any]:
    wish = _wish(body)
    wished = [wish.stop] if isinstance(wish.stop, str) else wish.stop or []
    stops = [stop for stop in wished if stop]
    if len(stops) > STOPS_MAX:
        raise unsupported("stop", f"has {len(stops)} entries; this deployment takes {STOPS_MAX}")
    found: dict[str, Any] = {
        "maxOutputTokens": call.max_tokens,
        "temperature": wish.temperature,
        "topP": wish.top_p,
        "topK": _top_k(wish.top_k),
        "stopSequences": stops or None,
        "presencePenalty": wish.presence_penalty or None,
        "frequencyPenalty": wish.frequency_penalty or None,
    }
    if wish.seed is not None:
        if wish.seed == int(wish.seed) and abs(wish.seed) <= _SEED_MAX:
            found["seed"] = int(wish.seed)
        else:
            ignored.add("seed")
    return {name: value for name, value in found.items() if value is not None}


def _top_k(value: float | None) -> int | None:
    if value is None:
        return None
    if value < 1 or value != int(value):
        # "All of them" has no word here, and leaving it out means the model's own bound.
        raise unsupported("top_k", "must be a whole number above 0 for this deployment")
    return int(value)


def _wish(body: Body) -> _Sampling:
    members = {name: body[name] for name in _Sampling.__struct_fields__ if name in body}
    if not members:
        return _Sampling()
    try:
        return _sampling(msgspec.json.encode(members))
    except JUNK:
        for name, raw in members.items():
            try:
                _sampling(msgspec.json.encode({name: raw}))
            except JUNK:
                raise rejected(name, "does not have the expected form") from None
        raise rejected(min(members), "does not have the expected form") from None


def _lost(body: Body, dialogue: Dialogue) -> list[str]:
    """Return what of the messages has no place in Gemini's."""
    lost = unsaid_of_messages(body)
    if is_cache_marked(dialogue):
        lost.append("cache_control")
    parts = (part for turn in dialogue.turns for part in turn.parts)
    if any(isinstance(part, File) and part.filename for part in parts):
        lost.append("messages.file.filename")
    return lost
