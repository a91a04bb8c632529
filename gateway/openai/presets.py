"""Functions: a preset's fields under a request's own; pure."""

from typing import Final, NamedTuple

import msgspec

from kit.errors import Reason, TurnpikeError

Fields = dict[str, msgspec.Raw]
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Preset(NamedTuple):
    """What a function adds to a request; its `messages` go before the request's own."""

    model_id: str
    defaults: Fields
    overridable: frozenset[str]


def with_preset(fields: Fields, preset: Preset) -> bytes:
    """Return the body of a request to a function.

    Raises:
        TurnpikeError: `INVALID_VALUE`: the request sets what the function keeps to itself.
    """
    merged = dict(fields)
    for name, raw in preset.defaults.items():
        if name == "messages":
            merged[name] = _joined(raw, fields[name])
        elif name not in fields:
            merged[name] = raw
        elif name not in preset.overridable:
            raise TurnpikeError(
                Reason.INVALID_VALUE, f"{name} is set by the function; leave it out.", param=name
            )
    return msgspec.json.encode(merged)


def _joined(first: msgspec.Raw, then: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode([*_list(first), *_list(then)]))
