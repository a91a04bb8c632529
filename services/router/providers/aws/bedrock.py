"""Amazon Bedrock's Converse as a codec for `translated`; the request and the answer are elsewhere.

Source: botocore service model `bedrock-runtime` (1.44, read 2026-11).
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from services.router.providers.anthropic.structure import answer_tool
from services.router.providers.aws.converse_answer import ConverseTranslator, read_converse
from services.router.providers.aws.converse_content import REASONING_FORMAT
from services.router.providers.aws.converse_models import CLAUDE, family_of
from services.router.providers.aws.converse_request import THINKING, encode_converse
from services.router.providers.aws.errors import error_of_answer
from services.router.providers.fetch import ImageUrl
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError, Traits
from services.router.providers.translated import Outgoing
from services.router.providers.turn_state import DETAILS, WantsBack
from services.router.providers.turns import read_dialogue
from services.router.upstream import ResponseHead

SERVICE: Final = "bedrock"
_EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
_JSON: Final = "application/json"
_SIGNED: Final = WantsBack(frozenset({DETAILS}), frozenset({REASONING_FORMAT[CLAUDE]}))


def _wants_back(call: Call, body: Body) -> WantsBack | None:
    """Return what a Claude that thinks needs of its earlier thoughts: their signatures."""
    is_asked = not THINKING.isdisjoint(body)
    if call.options.get("thinking", "none") == "none" or not is_asked or _family(call) != CLAUDE:
        return None
    return _SIGNED


class BedrockCodec:
    """Converse for the models of one deployment; see `translated.Codec`."""

    stream_type = _EVENT_STREAM.encode()
    whole_type = _JSON.encode()
    probe_path = "/ping"
    traits = Traits(_wants_back, takes_cache_marks=True)

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched: Converse takes only bytes."""
        if b'"image_url"' not in bytes(body.get("messages", b"")):
            return []
        return [ImageUrl(image.where, image.url) for image in read_dialogue(body).images()]

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request; see `translated.Codec`."""
        if call.operation:
            raise ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")
        model = _model(call)
        encoded = encode_converse(call, body, fetched, family=_family(call))
        path = "converse-stream" if call.is_streaming else "converse"
        headers = {
            "content-type": _JSON,
            "accept": _EVENT_STREAM if call.is_streaming else _JSON,
        }
        # What stands in the path is encoded once; its signature encodes that once more.
        where = f"/model/{quote(model, safe='')}/{path}"
        return Outgoing(where, encoded.body, encoded.ignored, headers)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer."""
        tool = answer_tool(call, body)
        return read_converse(call, answer, family=_family(call), answer_tool=tool)

    def translator(self, call: Call, body: Body) -> ConverseTranslator:
        """Return what reads a streamed answer."""
        return ConverseTranslator(call, family=_family(call), answer_tool=answer_tool(call, body))

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means."""
        return error_of_answer(head, answer, now_unix_s=now_unix_s)


def _model(call: Call) -> str:
    return call.adapter or call.upstream_model


def _family(call: Call) -> str:
    return call.options.get("family") or family_of(_model(call))
