"""A chat completion as a request of the Messages API; pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.router.providers.anthropic.blocks import is_left_out, write_system, write_turns
from services.router.providers.anthropic.fields import (
    SAMPLING,
    check_fields,
    left_aside,
    put_account,
    put_sampling,
    unknown_fields,
)
from services.router.providers.anthropic.hosts import Host
from services.router.providers.anthropic.structure import has_native, structure_of
from services.router.providers.anthropic.thinking import thinking_of
from services.router.providers.anthropic.tools import read_tools
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.translated import Outgoing
from services.router.providers.turns import Dialogue, read_dialogue

_THOUGHTS: Final = "reasoning_content"


def encode_request(
    call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]], host: Host
) -> Outgoing:
    """Return the request as a host of Claude gets it.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    if call.operation or call.adapter:
        raise unsupported("model", "is asked for something that this deployment does not serve")
    check_fields(body)
    tools = read_tools(body, has_strict=has_native(call))
    structure = structure_of(call, tools)
    tools = structure.with_tool(tools)
    dialogue = read_dialogue(body, fetched)
    turns = write_turns(dialogue.turns)
    request: dict[str, object] = {
        **unknown_fields(body),
        **host.members(call),
        "max_tokens": call.max_tokens,
        "messages": turns,
    }
    if system := write_system(dialogue):
        request["system"] = system
    ignored = [*left_aside(body), *dialogue.left_out, *put_account(request, body), *tools.ignored]
    ignored += put_sampling(request, body, call.options.get("sampling", SAMPLING[0]))
    request |= tools.members()
    thinking = thinking_of(call, body, request, turns, is_forced=tools.is_forced)
    if thinking.config is not None:
        request["thinking"] = thinking.config
    output: dict[str, object] = {}
    if thinking.effort:
        output["effort"] = thinking.effort
    if form := structure.format():
        output["format"] = form
    if output:
        request["output_config"] = output
    ignored += thinking.ignored
    if _has_lost_thoughts(dialogue):
        ignored.append(_THOUGHTS)
    return Outgoing(host.path_of(call), msgspec.json.encode(request), tuple(ignored))


def _has_lost_thoughts(dialogue: Dialogue) -> bool:
    return any(is_left_out(part) for turn in dialogue.turns for part in turn.parts)
