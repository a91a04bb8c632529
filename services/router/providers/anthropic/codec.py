"""The codec of the Messages API: one object for each host of Claude; pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.router.providers.anthropic.content import Block, Content
from services.router.providers.anthropic.errors import error_in_answer, error_of_answer
from services.router.providers.anthropic.hosts import ANTHROPIC, Host
from services.router.providers.anthropic.request import encode_request
from services.router.providers.anthropic.stream import AnthropicTranslator
from services.router.providers.anthropic.structure import answer_tool
from services.router.providers.anthropic.thinking import wants_back
from services.router.providers.anthropic.usage import Tally, Usage, finish_reason
from services.router.providers.chunk_writer import ChunkWriter
from services.router.providers.fetch import ImageUrl
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Body, Call, ProviderError, Traits
from services.router.providers.translated import Outgoing
from services.router.providers.turns import read_dialogue
from services.router.upstream_types import ResponseHead


class _Answer(msgspec.Struct):
    type: str = ""
    content: list[Block] = []
    stop_reason: str | None = None
    usage: Usage | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


class AnthropicCodec:
    """Speaks the Messages API as one host of Claude does; see `Codec`."""

    stream_type = b"text/event-stream"
    whole_type = b"application/json"
    traits = Traits(wants_back, takes_cache_marks=True)

    def __init__(self, host: Host = ANTHROPIC) -> None:
        self._host = host
        self.probe_path = host.probe_path

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched before `encode`; most hosts fetch them."""
        if not self._host.fetches_images:
            return []
        return [ImageUrl(image.where, image.url) for image in read_dialogue(body).images()]

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """
        return encode_request(call, body, fetched, self._host)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer.

        Raises:
            ProviderError: It makes no sense, or is an error.
        """
        try:
            found = _decode(answer)
        except JUNK:
            raise invalid("The upstream's answer is no message.") from None
        if found.type == "error":
            raise error_in_answer(answer)
        if found.type != "message" or found.stop_reason is None:
            raise invalid("The upstream's answer is no message.")
        writer, tally = ChunkWriter(call), Tally()
        content = Content(writer, answer_tool(call, body))
        for index, block in enumerate(found.content):
            content.begin(index, block)
            content.close(index)
        if found.usage is not None:
            tally.take(found.usage)
        return writer.end(finish_reason(found.stop_reason, writer), tally.counts())

    def translator(self, call: Call, body: Body) -> AnthropicTranslator:
        """Return what reads a streamed answer."""
        return AnthropicTranslator(call, answer_tool(call, body))

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means."""
        return error_of_answer(
            head.status,
            answer,
            retry_after=head.headers.get(b"retry-after", b""),
            now_unix_s=now_unix_s,
        )
