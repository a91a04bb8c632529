"""A request as a vendor that speaks OpenAI gets it, by its profile; pure.

Each field is honoured, refused, or left aside with its name told. A semantic field that the
deployment lacks is met here only with a value that asks for nothing, since it would have been
routed elsewhere; it is left out all the same, because some vendors refuse the bare name.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from services.router.capabilities import FEATURES, param_of
from services.router.constraints import CONSTRAINTS
from services.router.providers.constraint_fields import put_constraint
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.profiles import BEST_EFFORT, Names, Profile
from services.router.providers.openai.vendor_messages import (
    NULL,
    exchanged,
    respelled_messages,
    respelled_tools,
)
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.unsaid import asks_nothing
from turnpike.router.v1 import router_pb2

_SEMANTIC: Final = frozenset(name for name in FEATURES if param_of(name) == name) - CONSTRAINTS
_BOUNDS: Final = ("stream_options", "max_tokens", "max_completion_tokens")
_KWARGS: Final = "chat_template_kwargs"
_EFFORT: Final = "reasoning_effort"


class _Arguments(msgspec.Struct):
    enable_thinking: bool | None = None


_arguments: Final = msgspec.json.Decoder(_Arguments).decode
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Spelled(NamedTuple):
    """A request as it is sent; `ignored` names what was left aside of it."""

    body: bytes
    ignored: tuple[str, ...] = ()


class VendorRequest:
    """Writes the requests for one deployment; `capabilities` are its features."""

    def __init__(self, profile: Profile, capabilities: Iterable[str], *, reasons: bool) -> None:
        self._profile = profile
        self._lacking = _SEMANTIC.difference(capabilities)
        self._reasons = reasons
        takes = BEST_EFFORT if profile.takes is None else profile.takes
        self._dropped: Names = BEST_EFFORT - takes
        if not profile.has_template:
            self._dropped |= {_KWARGS}

    def encode(self, call: Call, body: Body) -> Spelled:
        """Return the request of a chat, a text or an embedding.

        Raises:
            ProviderError: `UNSUPPORTED` or `REJECTED`, with `param`.
        """
        request: dict[str, object] = dict(body)
        ignored: list[str] = []
        for name in _BOUNDS:
            request.pop(name, None)
        switched = self._switched(call, request, ignored)
        is_text = call.operation == router_pb2.OPERATION_COMPLETION
        lacking = self._lacking | self._profile.text_lacks if is_text else self._lacking
        self._leave_aside(request, lacking, ignored)
        if is_text and "completion" in self._profile.paths and _has_several(request):
            raise unsupported("prompt")
        request = {**switched, **request}
        if self._reasons:
            self._check_thinking(request, ignored)
        self._respell(request, ignored)
        request["model"] = call.adapter or call.upstream_model
        if call.operation != router_pb2.OPERATION_EMBEDDING:
            request["stream"] = call.is_streaming
            request |= self._profile.forced
            self._bound(call, request)
        if call.constraint is not None:
            put_constraint(request, call.constraint, call.options.get("engine", "openai"))
        return Spelled(msgspec.json.encode(request), tuple(sorted(ignored)))

    def _bound(self, call: Call, request: dict[str, object]) -> None:
        is_chat = not call.operation
        field = self._profile.max_tokens_field if is_chat else "max_tokens"
        request[field] = call.max_tokens
        if call.is_streaming and self._profile.has_stream_options:
            request["stream_options"] = {"include_usage": True}

    def _leave_aside(self, request: dict[str, object], lacking: Names, ignored: list[str]) -> None:
        """Take out what means nothing there; refuse what would mean something."""
        dropped = self._dropped.intersection(request)
        ignored += [name for name in dropped if request.pop(name) != NULL]
        for name in lacking.intersection(request):
            if not asks_nothing(name, bytes(_raw(request.pop(name)))):
                raise unsupported(name)

    def _check_thinking(self, request: dict[str, object], ignored: list[str]) -> None:
        """Refuse or tell of what a model that reasons does not let itself be told."""
        thinking = self._profile.thinking
        for name, values in thinking.fixed.items():
            if name in request and bytes(_raw(request.pop(name))) not in values:
                raise unsupported(name)
        off = thinking.switch.get(False, {})
        if not all(request.get(name) == value for name, value in off.items()):
            ignored += thinking.unheard.intersection(request)

    def _respell(self, request: dict[str, object], ignored: list[str]) -> None:
        profile = self._profile
        for name, values in profile.values.items():
            if name in request:
                request[name] = exchanged(values, _raw(request[name]))
        for name, other in profile.renamed.items():
            if name in request:
                request[other] = request.pop(name)
        if "tools" in request:
            raw = _raw(request["tools"])
            request["tools"] = respelled_tools(raw, profile.messages, ignored)
        if "messages" in request:
            raw = _raw(request["messages"])
            request["messages"] = respelled_messages(raw, profile.messages, ignored)

    def _switched(
        self, call: Call, request: dict[str, object], ignored: list[str]
    ) -> Mapping[str, object]:
        """Take out what says whether to think first, and return it in the vendor's words."""
        thinking = self._profile.thinking
        if not (self._reasons or call.options.get("thinking")):
            return {}
        if thinking.is_none_a_switch and bytes(_raw(request.get(_EFFORT))) == b'"none"':
            del request[_EFFORT]
            return thinking.switch[False]
        if _KWARGS not in self._dropped or _KWARGS not in request:
            return {}
        raw = _raw(request.pop(_KWARGS))
        wanted, is_all = _wanted(raw)
        said = thinking.switch.get(wanted, {}) if wanted is not None else {}
        if raw != NULL and not (said and is_all and request.keys().isdisjoint(said)):
            ignored.append(_KWARGS)
        return said


def _has_several(request: Mapping[str, object]) -> bool:
    """Return whether the prompt is more than one text, which nobody fills in the middle of."""
    return bytes(_raw(request.get("prompt"))).startswith(b"[")


def _wanted(raw: msgspec.Raw) -> tuple[bool | None, bool]:
    """Return what `enable_thinking` is, and whether it is the only argument."""
    try:
        return _arguments(raw).enable_thinking, len(_names(raw)) == 1
    except JUNK:
        return None, False


def _raw(value: object) -> msgspec.Raw:
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(value))
