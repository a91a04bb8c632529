"""What a model has to be handed back with the next turn; pure.

Clients know of no such members and drop them.
"""

from typing import Final, NamedTuple

import msgspec

DETAILS: Final = "reasoning_details"
REASONING: Final = "reasoning_content"
EXTRA: Final = "extra_content"


class WantsBack(NamedTuple):
    """What of an answer that called tools has to come back to whom the request goes.

    `members` are some of `reasoning_details`, `reasoning_content` and `extra_content`. Of the
    details it can read those of these `formats`; a reseller all but those in `foreign`.
    """

    members: frozenset[str]
    formats: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()

    def takes(self, format_name: str) -> bool:
        """Return whether a detail of a format may be sent there."""
        if self.formats:
            return format_name in self.formats
        return format_name not in self.foreign


class TurnState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an answer said beside its text and its calls.

    `details` are its `reasoning_details`, `reasoning` its `reasoning_content`, `extras` the
    `extra_content` of its calls by their ids.
    """

    details: list[msgspec.Raw] = []
    reasoning: str = ""
    extras: dict[str, msgspec.Raw] = {}

    def __bool__(self) -> bool:
        return bool(self.details or self.reasoning or self.extras)

    def encoded(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)


decode_state: Final = msgspec.json.Decoder(TurnState).decode
