"""Gemini's API as a codec: which path is asked, and who reads the answer; pure.

AI Studio and Vertex AI differ in where a model is and in how vectors are asked for.
"""

from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import quote

from services.router.providers.fetch import ImageUrl
from services.router.providers.google.gemini_answer import GeminiStream, read_gemini
from services.router.providers.google.gemini_contents import SIGNATURE_FORMAT
from services.router.providers.google.gemini_embeddings import (
    encode_batch,
    encode_predict,
    read_batch,
    read_predict,
)
from services.router.providers.google.gemini_errors import google_error
from services.router.providers.google.gemini_request import encode_gemini
from services.router.providers.google.gemini_thinking import NEVER, thinking_way
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError, Traits
from services.router.providers.translated import Outgoing
from services.router.providers.turn_state import DETAILS, EXTRA, WantsBack
from services.router.providers.turns import read_dialogue
from services.router.upstream import ResponseHead
from turnpike.router.v1 import router_pb2

Place = Literal["ai_studio", "vertex"]
_IMAGE: Final = b'"image_url"'
_SIGNED: Final = WantsBack(frozenset({DETAILS, EXTRA}), frozenset({SIGNATURE_FORMAT}))


def _wants_back(call: Call, body: Body) -> WantsBack | None:
    """Return what a model that thinks needs of its earlier calls: their signatures."""
    del body
    way = thinking_way(call.upstream_model, call.options.get("thinking", ""))
    return None if way == NEVER else _SIGNED


class GeminiCodec:
    """One of the two places where Gemini can be asked; see `translated.Codec`."""

    stream_type = b"text/event-stream"
    whole_type = b"application/json"
    traits = Traits(_wants_back)

    def __init__(self, place: Place) -> None:
        self._place = place
        self.probe_path = "/models?pageSize=1" if place == "ai_studio" else "/endpoints?pageSize=1"

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched before `encode`."""
        if _IMAGE not in bytes(body.get("messages", b"")):
            return []
        return [ImageUrl(image.where, image.url) for image in read_dialogue(body).images()]

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """
        if call.operation == router_pb2.OPERATION_EMBEDDING:
            return self._embedding(call, body)
        if call.operation:
            raise ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")
        request = encode_gemini(call, body, fetched)
        verb = "streamGenerateContent?alt=sse" if call.is_streaming else "generateContent"
        return Outgoing(f"{self._model_path(call)}:{verb}", request.body, request.ignored)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer.

        Raises:
            ProviderError: It makes no sense, or is an error.
        """
        if call.operation == router_pb2.OPERATION_EMBEDDING:
            read = read_batch if self._place == "ai_studio" else read_predict
            return read(call, body, answer)
        return read_gemini(call, answer)

    def translator(self, call: Call, body: Body) -> GeminiStream:
        """Return what reads a streamed answer."""
        del body
        return GeminiStream(call)

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means."""
        retry_after = head.headers.get(b"retry-after", b"")
        return google_error(head.status, answer, retry_after=retry_after, now_unix_s=now_unix_s)

    def _embedding(self, call: Call, body: Body) -> Outgoing:
        path = self._model_path(call)
        if self._place == "ai_studio":
            sent, ignored = encode_batch(call, body, path[1:])
            return Outgoing(f"{path}:batchEmbedContents", sent, ignored)
        sent, ignored = encode_predict(call, body)
        return Outgoing(f"{path}:predict", sent, ignored)

    def _model_path(self, call: Call) -> str:
        name = call.adapter or call.upstream_model
        if self._place == "vertex":
            name = name.removeprefix("google/")
            collection = "" if name.startswith("endpoints/") else "publishers/google/models/"
        else:
            collection = "" if name.startswith(("models/", "tunedModels/")) else "models/"
        return "/" + collection + quote(name, safe="/")
