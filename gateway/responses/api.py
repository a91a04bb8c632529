"""OpenAI's Responses as a client API; pure."""

from typing import Final

from gateway.call import ModelCall, ReadRules
from gateway.errors import error_body
from gateway.openai.dialect import Dialect
from gateway.responses.answer import whole_response
from gateway.responses.request import Asked, read_responses
from gateway.responses.stream import ResponseStream, error_event
from kit.errors import TurnpikeError


class ResponsesApi:
    """`POST /v1/responses`, for one request: answers and errors speak of what was asked."""

    route: Final = "POST /v1/responses"

    def __init__(self) -> None:
        self._asked: Asked | None = None
        self._stream: ResponseStream | None = None

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        call, self._asked = read_responses(body, rules)
        return call

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the response object."""
        return whole_response(completion, call, self._read(), request_id)

    def stream(self, call: ModelCall, request_id: str) -> ResponseStream:
        """Return how the events are spelled."""
        self._stream = ResponseStream(call, self._read(), request_id)
        return self._stream

    def error_body(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return OpenAI's error object; fields are called as the caller wrote them."""
        return error_body(self._named(error), dialect, request_id)

    def error_event(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return the events that end a broken stream, also one that has not begun."""
        error, stream = self._named(error), self._stream
        if stream is None:
            return error_event(error, dialect, request_id, number=0)
        return stream.fail(error, dialect)

    def _read(self) -> Asked:
        if self._asked is None:
            raise RuntimeError("A response is made of a request that was read.")
        return self._asked

    def _named(self, error: TurnpikeError) -> TurnpikeError:
        return error if self._asked is None else self._asked.named(error)
