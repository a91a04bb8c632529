"""What OpenAI's own endpoints have in common: answers and errors go out as they are; pure."""

from gateway.call import ModelCall
from gateway.errors import error_body, error_event
from gateway.openai.dialect import Dialect
from kit.errors import TurnpikeError


class OpenAiApi:
    """The half of an `Api` that spells answers; a subclass names its route and reads requests."""

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the answer as it is."""
        del call, request_id
        return completion

    def stream(self, call: ModelCall, request_id: str) -> None:
        """Return None: chunks are sent as they are."""
        del call, request_id

    def error_body(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return OpenAI's error object."""
        return error_body(error, dialect, request_id)

    def error_event(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return one event with OpenAI's error object."""
        return error_event(error, dialect, request_id)
