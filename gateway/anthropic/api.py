"""The Messages API as a client API of the gateway; pure.

Any `anthropic-version` is accepted: the Messages API has been one since its first. A beta changes
nothing by its name: fields that it would add are read or refused by themselves. One that asks for
something that is not done is listed in `X-Turnpike-Ignored` as `anthropic-beta:<name>`.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.anthropic.answer import message
from gateway.anthropic.errors import error_body, error_event
from gateway.anthropic.names import Origin, renamed
from gateway.anthropic.request import Reading, read_messages
from gateway.anthropic.schema import decode_count, decode_messages
from gateway.anthropic.stream import MessageStream
from gateway.call import ModelCall, ReadRules
from gateway.openai.dialect import Dialect
from kit.errors import Reason, TurnpikeError

BETAS_MAX: Final = 32
"""Names in one request's `anthropic-beta`."""

_BETA: Final = re.compile(r"[A-Za-z0-9._-]{1,80}")
_DONE_ANYWAY: Final = frozenset(
    {
        "fine-grained-tool-streaming-2025-05-14",
        "max-tokens-3-5-sonnet-2024-07-15",
        "messages-2023-12-15",
        "pdfs-2024-09-25",
        "structured-outputs-2025-11-13",
        "token-counting-2024-11-01",
        "tools-2024-04-04",
        "tools-2024-05-16",
    }
)
"""Betas whose feature every request has."""


class MessagesApi(msgspec.Struct, eq=False):
    """`POST /v1/messages`, for one request; `betas` are its `anthropic-beta` headers.

    `is_counting` for `POST /v1/messages/count_tokens`.
    """

    betas: Sequence[str] = ()
    is_counting: bool = False
    prompt_tokens: int = 0
    stop_sequences: list[str] = msgspec.field(default_factory=list)
    origins: Sequence[Origin] = ()

    @property
    def route(self) -> str:
        """The endpoint's name."""
        return "POST /v1/messages/count_tokens" if self.is_counting else "POST /v1/messages"

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        left_out = _left_out(self.betas)
        decode = decode_count if self.is_counting else decode_messages
        reading: Reading = read_messages(body, rules, decode)
        self.origins, self.prompt_tokens = reading.origins, reading.prompt_tokens
        call = reading.call
        if (stop := call.fields.get("stop")) is not None:
            self.stop_sequences = msgspec.json.decode(stop, type=list[str])
        return (
            msgspec.structs.replace(call, ignored=(*call.ignored, *left_out)) if left_out else call
        )

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the message for a whole answer."""
        del call
        return message(completion, self.stop_sequences, request_id)

    def stream(self, call: ModelCall, request_id: str) -> MessageStream:
        """Return how the streamed answer is spelled."""
        del call
        return MessageStream(request_id, self.prompt_tokens, self.stop_sequences)

    def error_body(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return Anthropic's error object, whatever the dialect."""
        del dialect
        return error_body(renamed(error, self.origins), request_id)

    def error_event(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return one `error` event, whatever the dialect."""
        del dialect
        return error_event(renamed(error, self.origins), request_id)


def _left_out(headers: Sequence[str]) -> tuple[str, ...]:
    """Return the betas that are not done.

    Raises:
        TurnpikeError: `BAD_REQUEST` when it is no list of names.
    """
    names = {name.strip() for value in headers for name in value.split(",")} - {""}
    if len(names) > BETAS_MAX or not all(map(_BETA.fullmatch, names)):
        raise TurnpikeError(
            Reason.BAD_REQUEST,
            f"The anthropic-beta header must be a list of at most {BETAS_MAX} names.",
        )
    return tuple(f"anthropic-beta:{name}" for name in sorted(names - _DONE_ANYWAY))
