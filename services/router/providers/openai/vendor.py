"""The transport for vendors that speak OpenAI with words of their own; their profiles are data.

Only a deployment whose profile is not plain is opened here; all others stay with `openai_compat`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from kit.clock import Clock
from services.router.providers.openai.compat import OpenAiCompatProvider, OpenAiCompatSettings
from services.router.providers.openai.embeddings import read_embeddings
from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.openai.media import MEDIA
from services.router.providers.openai.profiles import Operation, Profile
from services.router.providers.openai.turns import TurnGatherer, wants_back
from services.router.providers.openai.vendor_answer import (
    VendorForwarder,
    VendorTextForwarder,
    read_vendor_chat,
    read_vendor_text,
)
from services.router.providers.openai.vendor_media import (
    check_sound,
    image_body,
    own_images,
    speech_body,
)
from services.router.providers.openai.vendor_request import VendorRequest
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError, Traits
from services.router.providers.telling import tell
from services.router.upstream import HttpPool, Target
from turnpike.router.v1 import router_pb2

_CHAT: Final = router_pb2.OPERATION_UNSPECIFIED
_TEXT: Final = router_pb2.OPERATION_COMPLETION
_EMBEDDING: Final = router_pb2.OPERATION_EMBEDDING
_IMAGE: Final = router_pb2.OPERATION_IMAGE
_SPEECH: Final = router_pb2.OPERATION_SPEECH
_NAMES: Final[Mapping[int, Operation]] = {_TEXT: "completion", _EMBEDDING: "embedding"}
_MEDIA_NAMES: Final[Mapping[int, Operation]] = {
    _IMAGE: "image",
    _SPEECH: "speech",
    router_pb2.OPERATION_TRANSCRIPTION: "transcription",
}
_PATHS: Final[Mapping[Operation, str]] = {"completion": "/completions", "embedding": "/embeddings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What is known of one deployment: its profile, and its features; whether it `reasons`."""

    profile: Profile
    capabilities: frozenset[str]
    reasons: bool = False


class VendorProvider(OpenAiCompatProvider):
    """One deployment at a vendor; opened by `open_openai_vendor`."""

    def __init__(
        self,
        settings: OpenAiCompatSettings,
        vendor: Vendor,
        *,
        pool: HttpPool,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(settings, pool=pool, clock=clock, loop=loop)
        profile = vendor.profile
        rules = profile.answer
        thinking = profile.thinking
        is_forgetful = bool(thinking.wants_back) and (vendor.reasons or thinking.always_wants_back)
        self.traits = Traits(
            partial(wants_back, profile, reasons=vendor.reasons) if is_forgetful else None,
            profile.takes_cache_marks,
        )
        self._request = VendorRequest(profile, vendor.capabilities, reasons=vendor.reasons)
        self._operations = profile.operations
        self._rules = profile.media
        self._others = {
            operation: Target.of(settings.base_url, profile.paths.get(name, _PATHS[name]))
            for operation, name in _NAMES.items()
            if name in profile.operations
        }
        self._readers = {
            _CHAT: partial(read_vendor_chat, rules=rules),
            _TEXT: partial(read_vendor_text, rules=rules),
            _EMBEDDING: read_embeddings,
        }

        def forwarder(call: Call, body: Body) -> StreamForwarder:
            kind = VendorTextForwarder if call.operation else VendorForwarder
            return kind(call, body, rules)

        self._forwarder = forwarder

    def stream(self, call: Call, body: Body, *, deadline_s: float) -> AsyncGenerator[Batch, None]:
        """Return the answer's batches; see `services.router.providers.port.Provider`."""
        return self._told(call, body, deadline_s)

    async def _told(self, call: Call, body: Body, deadline_s: float) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches; the caller is told what was left aside."""
        if call.operation in MEDIA:
            if _MEDIA_NAMES[call.operation] not in self._operations:
                raise ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")
            stream = self._pictured(call, body, deadline_s)
            ignored: tuple[str, ...] = ()
        else:
            spelled = self._request.encode(call, body)
            ignored = spelled.ignored
            stream = self._chat(call._replace(form=spelled.body), body, deadline_s)
        gatherer = TurnGatherer(call.keep) if call.keep is not None else None
        async with aclosing(stream) as batches:
            async for batch in batches:
                if ignored and tell(batch, ignored):
                    ignored = ()
                if gatherer is not None:
                    gatherer.take(batch)
                yield batch

    async def _pictured(
        self, call: Call, body: Body, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches of images, speech or a transcription."""
        rules, operation = self._rules, call.operation
        if operation == _IMAGE:
            body = image_body(body, rules)
        elif operation == _SPEECH:
            body = speech_body(body, rules)
        elif rules.sound_formats:
            check_sound(call, rules)
        async with aclosing(self._media.stream(call, body, deadline_s=deadline_s)) as batches:
            async for batch in batches:
                if operation == _IMAGE and rules.image_fields is not None:
                    own_images(call, batch)
                yield batch

    def _encoded(self, call: Call, body: Body) -> bytes:
        return call.form


@asynccontextmanager
async def open_openai_vendor(
    settings: OpenAiCompatSettings, vendor: Vendor, *, pool: HttpPool, clock: Clock
) -> AsyncIterator[VendorProvider]:
    """Open a provider for one deployment at a vendor; the pool stays the caller's.

    Raises:
        ValueError: The base URL or a header cannot be sent.
    """
    loop = asyncio.get_running_loop()
    yield VendorProvider(settings, vendor, pool=pool, clock=clock, loop=loop)
