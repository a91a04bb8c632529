"""OpenAI's chat completions as a client API: forwarded as they come; pure."""

from typing import Final

from gateway.call import ModelCall
from gateway.openai.answer import filled
from gateway.openai.api import OpenAiApi
from gateway.openai.envelope import read_chat


class ChatApi(OpenAiApi):
    """`POST /v1/chat/completions`."""

    route = "POST /v1/chat/completions"

    read = staticmethod(read_chat)

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the completion, with what its dialect adds."""
        del request_id
        if not call.answer_defaults:
            return completion
        return filled(completion, call.answer_defaults, has_empty_fields=call.has_empty_fields)


CHAT: Final = ChatApi()
