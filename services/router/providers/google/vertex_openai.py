"""Vertex AI's models that speak OpenAI, as a codec: their path, their names, Google's refusals.

Pure. Source: Vertex AI, chat completions API and open models (read 2026-11).
"""

from collections.abc import Mapping
from typing import Final

from services.router.providers.fetch import ImageUrl
from services.router.providers.google.gemini_errors import google_error
from services.router.providers.openai.content import ignored_prompt_fields
from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.request import choice_count, encode_request
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.translated import Outgoing
from services.router.upstream import ResponseHead

_PATH: Final = "/endpoints/openapi/chat/completions"
_PREFIX: Final = "openai/"
_MAX_TOKENS: Final = "max_tokens"


class VertexOpenAiCodec:
    """See `translated.Codec`."""

    stream_type = b"text/event-stream"
    whole_type = b"application/json"
    probe_path = "/endpoints?pageSize=1"

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return no image: they are fetched there."""
        del body
        return []

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request; the model's name there is what follows `openai/`.

        Raises:
            ProviderError: UNSUPPORTED, with `param`.
        """
        del fetched
        if call.operation:
            raise ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")
        named = call._replace(upstream_model=call.upstream_model.removeprefix(_PREFIX))
        sent = encode_request(named, body, max_tokens_field=_MAX_TOKENS)
        return Outgoing(_PATH, sent, tuple(ignored_prompt_fields(call, body)))

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer.

        Raises:
            ProviderError: It makes no sense, or is an error.
        """
        return read_completion(call, answer, choice_count=choice_count(body))

    def translator(self, call: Call, body: Body) -> StreamForwarder:
        """Return what reads a streamed answer."""
        return StreamForwarder(
            call, choice_count=choice_count(body), has_logprobs="logprobs" in body
        )

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means."""
        retry_after = head.headers.get(b"retry-after", b"")
        return google_error(head.status, answer, retry_after=retry_after, now_unix_s=now_unix_s)
