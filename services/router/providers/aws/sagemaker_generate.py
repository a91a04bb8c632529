"""Containers on SageMaker that take a prompt: TGI, LMI, JumpStart's Llama; pure.

Source: Hugging Face text-generation-inference, `/generate` and `/generate_stream`; DJL Serving,
"LMI handlers inference API schema"; SageMaker JumpStart, Llama (read 2026-11).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kit.errors import TurnpikeError
from kit.sse import events
from services.router.constraints import CONSTRAINTS, Kind
from services.router.providers.aws.sagemaker_bodies import Written, not_served
from services.router.providers.chunk_writer import ChunkWriter, Counts
from services.router.providers.fetch import ImageUrl
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.refusals import unsupported
from services.router.providers.translated import Translator
from services.router.providers.triton.prompt import prompt_failure
from services.router.providers.unsaid import unsaid
from services.router.providers.upstream_events import UpstreamSplitter
from services.router.template import ChatTemplate
from turnpike.type.v1 import usage_pb2

_SHORT: Final = frozenset({"temperature", "top_p", "chat_template_kwargs"})
_SAID: Final = {
    "tgi": _SHORT | {"top_k", "repetition_penalty", "seed"},
    "lmi": _SHORT | {"top_k", "repetition_penalty", "seed"},
    "llama-jumpstart": _SHORT,
}
_DETAILED: Final = frozenset({"tgi", "lmi"})
_REASONS: Final = {
    "": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "stop": "stop",
    "length": "length",
}
_FAILURES: Final = {
    "validation": Failure.REJECTED,
    "overloaded": Failure.RATE_LIMITED,
}


class _Wish(msgspec.Struct):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


class _Details(msgspec.Struct):
    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None


class _Token(msgspec.Struct):
    text: str = ""
    special: bool = False


class _Piece(msgspec.Struct):
    """An answer, or an event of one."""

    token: _Token | None = None
    generated_text: str | None = None
    generation: str | None = None
    details: _Details | None = None
    error: msgspec.Raw | None = None
    error_type: str = ""

    def check(self) -> None:
        """Raise what the container says went wrong."""
        if self.error is not None and bytes(self.error) != b"null":
            failure = _FAILURES.get(self.error_type, Failure.UNAVAILABLE)
            raise ProviderError(failure, "The upstream's container failed.", status=200)


class GenerateBody:
    """One such container; the prompt is written by the model's own template."""

    def __init__(self, kind: str, template: ChatTemplate) -> None:
        self._kind = kind
        self._template = template

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return none: there is no place for images."""
        del body
        return []

    def write(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Written:
        """Return the request."""
        del fetched
        if call.operation:
            raise not_served()
        if call.constraint is not None and call.constraint.kind is not Kind.FREE:
            raise unsupported(call.constraint.param)
        said = _SAID[self._kind] | CONSTRAINTS
        ignored = unsaid(body, said)
        request: dict[str, Any] = {
            "inputs": self._prompt(body),
            "parameters": self._parameters(call, body),
        }
        if call.is_streaming:
            request["stream"] = True
        return Written(msgspec.json.encode(request), ignored)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer."""
        del body
        try:
            found = msgspec.json.decode(answer, type=list[_Piece] | _Piece)
        except JUNK:
            raise _no_answer() from None
        pieces = found if isinstance(found, list) else [found]
        if len(pieces) != 1:
            raise _no_answer()
        piece = pieces[0]
        piece.check()
        text = piece.generation if piece.generated_text is None else piece.generated_text
        if text is None:
            raise _no_answer()
        writer = ChunkWriter(call)
        writer.text(text)
        return _last(writer, piece.details)

    def translator(self, call: Call, body: Body) -> Translator:
        """Return what reads the container's own stream."""
        del body
        return GenerateTranslator(call)

    def _prompt(self, body: Body) -> str:
        kwargs = bytes(body.get("chat_template_kwargs", b""))
        messages = bytes(body.get("messages", b"[]"))
        try:
            conversation = self._template.read(messages, b"" if kwargs == b"null" else kwargs)
            if conversation.images:
                raise unsupported("messages")
            return self._template.render(conversation)
        except TurnpikeError as error:
            raise prompt_failure(error) from error

    def _parameters(self, call: Call, body: Body) -> dict[str, object]:
        fields = {name: body[name] for name in _Wish.__struct_fields__ if name in body}
        try:
            wish = msgspec.json.decode(msgspec.json.encode(fields), type=_Wish)
        except JUNK:
            raise unsupported(min(fields)) from None
        is_greedy = wish.temperature == 0 or wish.top_p == 0
        found: dict[str, object] = {"max_new_tokens": call.max_tokens, "do_sample": not is_greedy}
        if wish.temperature and not is_greedy:
            found["temperature"] = wish.temperature
        # The whole is what they do without being told, and 1 is more than they take.
        if wish.top_p and wish.top_p < 1 and not is_greedy:
            found["top_p"] = wish.top_p
        if self._kind not in _DETAILED:
            return found
        if wish.top_k is not None and wish.top_k > 0 and not is_greedy:
            found["top_k"] = wish.top_k
        for name in ("repetition_penalty", "seed"):
            if (value := getattr(wish, name)) is not None:
                found[name] = value
        return {**found, "details": True, "return_full_text": False}


class GenerateTranslator:
    """Turns the events of one streamed answer into batches; see `translated.Translator`."""

    def __init__(self, call: Call) -> None:
        self._writer = ChunkWriter(call)
        self._splitter = UpstreamSplitter()
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended."""
        return self.is_done

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""
        return self._writer.has_content

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """
        return self._taken(self._splitter.feed(data))

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the answer has not ended.
        """
        batch = self._taken(self._splitter.finish())
        if batch is None or not self.is_done:
            raise ProviderError(
                Failure.INCOMPLETE, "The upstream ended its answer too early.", status=200
            )
        return batch

    def _taken(self, region: bytes) -> Batch | None:
        for event in events(region):
            data = event.data.strip()
            if not data or data == b"[DONE]":
                continue
            try:
                piece = msgspec.json.decode(data, type=_Piece)
            except JUNK:
                raise invalid("The upstream's stream holds an event that makes no sense.") from None
            piece.check()
            if piece.token is not None and not piece.token.special:
                self._writer.text(piece.token.text)
            if piece.generated_text is not None or piece.details is not None:
                self.is_done = True
                return _last(self._writer, piece.details)
        return self._writer.batch()


def _last(writer: ChunkWriter, details: _Details | None) -> Batch:
    """Return the last batch; tokens that were not counted are estimated."""
    details = details or _Details()
    reason = _REASONS.get(details.finish_reason or "", "")
    prompt, generated = details.input_length, details.generated_tokens
    if generated is None or prompt is None:
        batch = writer.end(reason, None)
        if generated is not None:
            Counts(0, generated).usage()
            batch.finish.usage.completion_token_count = generated
            batch.finish.usage.source = usage_pb2.USAGE_SOURCE_ESTIMATED
        return batch
    return writer.end(reason, Counts(prompt, generated))


def _no_answer() -> ProviderError:
    return invalid("The upstream's answer is not what its container answers.")
