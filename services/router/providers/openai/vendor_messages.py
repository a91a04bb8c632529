"""Conversations and tools as a vendor wants them; pure.

What is left out of a message is named `messages.<member>` for the caller.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.profiles import MessageRules
from services.router.providers.refusals import rejected

Fields = dict[str, msgspec.Raw]
NULL: Final = msgspec.Raw(b"null")

_SHORT_ID: Final = re.compile(r"[A-Za-z0-9]{9}")
_SHORT_ID_LETTERS: Final = 9
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_REFUSAL: Final = b'"refusal"'
_TOOL: Final = b'"tool"'

_list: Final = msgspec.json.Decoder(list[Fields]).decode
_fields: Final = msgspec.json.Decoder(Fields).decode
_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.encode


def short_id(call_id: str) -> str:
    """Return the id of a tool call in nine letters and digits; always the same for the same."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8])
    letters = ""
    for _ in range(_SHORT_ID_LETTERS):
        number, rest = divmod(number, len(_LETTERS))
        letters += _LETTERS[rest]
    return letters


def respelled_messages(raw: msgspec.Raw, rules: MessageRules, ignored: list[str]) -> msgspec.Raw:
    """Return a conversation in the vendor's words; what is left out is added to `ignored`.

    Raises:
        ProviderError: `REJECTED`: it is none.
    """
    try:
        messages = _list(raw)
        for message in messages:
            _respell(message, rules, ignored)
    except JUNK:
        raise rejected("messages", "cannot be read") from None
    return msgspec.Raw(_encode(messages))


def respelled_tools(raw: msgspec.Raw, rules: MessageRules, ignored: list[str]) -> msgspec.Raw:
    """Return tools in the vendor's words; what is left out is added to `ignored`.

    Raises:
        ProviderError: `REJECTED`: they are none.
    """
    if not (rules.drops_strict or rules.needs_parameters) or raw == NULL:
        return raw
    try:
        tools = _list(raw)
        for tool in tools:
            if "function" not in tool:
                continue
            function = _fields(tool["function"])
            if rules.drops_strict and bytes(function.pop("strict", NULL)) == b"true":
                _note("tools.strict", ignored)
            if rules.needs_parameters and function.get("parameters", NULL) == NULL:
                function["parameters"] = _NO_PARAMETERS
            tool["function"] = msgspec.Raw(_encode(function))
    except JUNK:
        raise rejected("tools", "cannot be read") from None
    return msgspec.Raw(_encode(tools))


def _respell(message: Fields, rules: MessageRules, ignored: list[str]) -> None:
    role = bytes(message.get("role", b""))
    if role in rules.roles:
        message["role"] = msgspec.Raw(rules.roles[role])
    if "refusal" in rules.dropped:
        _say_refusals(message)
    for name in rules.dropped.intersection(message):
        # Beside a tool's answer the name is that of the tool.
        if name == "name" and role == _TOOL:
            continue
        if message.pop(name) != NULL:
            _note(f"messages.{name}", ignored)
    for name, other in rules.renamed.items():
        if name in message:
            message.setdefault(other, message.pop(name))
            message.pop(name, None)
    if rules.has_thoughts_in_parts and "reasoning_content" in message:
        _say_thoughts(message)
    if rules.has_short_ids:
        _shorten_ids(message)


def _say_refusals(message: Fields) -> None:
    """Say as text what an assistant refused; nothing is lost of it."""
    refusal = message.get("refusal", NULL)
    if refusal != NULL and message.get("content", NULL) == NULL:
        message["content"] = message.pop("refusal")
    content = message.get("content", NULL)
    if not bytes(content).startswith(b"[") or _REFUSAL not in bytes(content):
        return
    blocks = _list(content)
    for block in blocks:
        if bytes(block.get("type", b"")) == _REFUSAL:
            block["type"] = msgspec.Raw(b'"text"')
            block["text"] = block.pop("refusal", msgspec.Raw(b'""'))
    message["content"] = msgspec.Raw(_encode(blocks))


def _say_thoughts(message: Fields) -> None:
    """Say as a part of its content what an assistant thought."""
    thought = message.pop("reasoning_content")
    if thought == NULL:
        return
    content = message.get("content", NULL)
    blocks: list[object] = []
    if bytes(content).startswith(b"["):
        blocks = [*_list(content)]
    elif content != NULL:
        blocks = [{"type": "text", "text": content}]
    part = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
    message["content"] = msgspec.Raw(_encode([part, *blocks]))


def _shorten_ids(message: Fields) -> None:
    if "tool_call_id" in message:
        message["tool_call_id"] = _shortened(message["tool_call_id"])
    if message.get("tool_calls", NULL) != NULL:
        calls = _list(message["tool_calls"])
        for call in calls:
            if "id" in call:
                call["id"] = _shortened(call["id"])
        message["tool_calls"] = msgspec.Raw(_encode(calls))


def _shortened(raw: msgspec.Raw) -> msgspec.Raw:
    return raw if raw == NULL else msgspec.Raw(_encode(short_id(_text(raw))))


def _note(name: str, ignored: list[str]) -> None:
    if name not in ignored:
        ignored.append(name)


def exchanged(values: Mapping[bytes, bytes], raw: msgspec.Raw) -> msgspec.Raw:
    """Return what stands for a value, itself for most."""
    other = values.get(bytes(raw))
    return raw if other is None else msgspec.Raw(other)
