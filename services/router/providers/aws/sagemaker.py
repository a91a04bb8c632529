"""Amazon SageMaker's envelope around what a container speaks, as a codec for `translated`.

Source: botocore service model `sagemaker-runtime` (1.44, read 2026-11).
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from services.router.providers.aws.errors import error_of_answer, fields_of_error, kind_of_error
from services.router.providers.aws.sagemaker_bodies import ContainerBody
from services.router.providers.aws.sagemaker_payload import PayloadTranslator
from services.router.providers.fetch import ImageUrl
from services.router.providers.openai.errors import error_of_status
from services.router.providers.port import Batch, Body, Call, ProviderError
from services.router.providers.translated import Outgoing
from services.router.upstream import ResponseHead

SERVICE: Final = "sagemaker"
_JSON: Final = "application/json"
_CONTAINER_FAILED: Final = "modelerror"


class SageMakerCodec:
    """One endpoint; `headers` say which of its models is meant; see `translated.Codec`."""

    stream_type = b"application/vnd.amazon.eventstream"
    whole_type = _JSON.encode()
    probe_path = "/ping"

    def __init__(self, body: ContainerBody, headers: Mapping[str, str]) -> None:
        self._body = body
        self._headers = {"content-type": _JSON, "accept": _JSON, **headers}

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched before `encode`."""
        return self._body.remote_images(body)

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request; see `translated.Codec`."""
        written = self._body.write(call, body, fetched)
        path = "invocations-response-stream" if call.is_streaming else "invocations"
        where = f"/endpoints/{quote(call.upstream_model, safe='')}/{path}"
        return Outgoing(where, written.body, written.ignored, self._headers)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer."""
        return self._body.read(call, body, answer)

    def translator(self, call: Call, body: Body) -> PayloadTranslator:
        """Return what reads a streamed answer."""
        return PayloadTranslator(self._body.translator(call, body))

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means; a container's own is in another's body."""
        if kind_of_error(head) == _CONTAINER_FAILED:
            fields = fields_of_error(answer)
            status, text = fields.get("OriginalStatusCode"), fields.get("OriginalMessage")
            if isinstance(status, int) and 400 <= status <= 599:
                said = text.encode() if isinstance(text, str) else b""
                return error_of_status(status, said, retry_after=b"", now_unix_s=now_unix_s)
        return error_of_answer(head, answer, now_unix_s=now_unix_s)
