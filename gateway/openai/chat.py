"""OpenAI's chat completions as a client API: forwarded as they come; pure."""

from typing import Final

from gateway.call import ModelCall, ReadRules
from gateway.errors import error_body, error_event
from gateway.openai.answer import filled
from gateway.openai.dialect import Dialect
from gateway.openai.envelope import read_chat
from kit.errors import TurnpikeError


class ChatApi:
    """`POST /v1/chat/completions`."""

    route: Final = "POST /v1/chat/completions"

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        return read_chat(body, rules)

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the completion, with what its dialect adds."""
        del request_id
        if not call.answer_defaults:
            return completion
        return filled(completion, call.answer_defaults, has_empty_fields=call.has_empty_fields)

    def stream(self, call: ModelCall, request_id: str) -> None:
        """Return None: chunks are sent as they are."""
        del call, request_id

    def error_body(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return OpenAI's error object."""
        return error_body(error, dialect, request_id)

    def error_event(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return one event with OpenAI's error object."""
        return error_event(error, dialect, request_id)


CHAT: Final = ChatApi()
