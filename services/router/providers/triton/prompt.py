"""What a chat becomes for a model that takes text: a prompt, and images as base64 beside it."""

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from kit.errors import Reason, TurnpikeError
from services.router.prompt_tools import PromptTools
from services.router.providers.fetch import ImageUrl
from services.router.providers.port import Body, Call, Failure, ProviderError
from services.router.providers.refusals import rejected, unsupported
from services.router.providers.triton.texts import single_prompt
from services.router.template import ChatTemplate
from services.router.template_messages import ContentForm, Conversation, Image
from turnpike.router.v1 import router_pb2

TEMPLATE_BYTES_MAX: Final = 64 * 1024
"""Longest template of a client, bytes."""

_NULL: Final = msgspec.Raw(b"null")
_BASE64: Final = ";base64,"
_CLIENTS_FORM: Final = ContentForm(has_blocks=True)
_text: Final = msgspec.json.Decoder(str)


class Prompts:
    """Makes the prompts of one model; without `tools` only those of its own template and text."""

    def __init__(self, template: ChatTemplate | None, tools: PromptTools | None) -> None:
        self._template = template
        self._tools = tools

    async def prompt(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> tuple[str, Sequence[Image]]:
        """Return the prompt of a request and the images that it speaks of.

        Args:
            call: The attempt; a text completion's prompt is taken as it is.
            body: The OpenAI request.
            deadline_s: Loop time by which a client's template must have begun.

        Raises:
            ProviderError: REJECTED or UNSUPPORTED, with `param`.
            TurnpikeError: Clients' templates cannot be rendered now; the deployment is not at
                fault.
        """
        template = self._template
        try:
            if call.operation == router_pb2.OPERATION_COMPLETION:
                text = single_prompt(body)
                return (text if template is None else template.cleaned("prompt", text)), ()
            if call.operation or template is None:
                what = "serve this" if call.operation else "have a chat template"
                raise ProviderError(Failure.UNSUPPORTED, f"The deployment does not {what}.")
            return await self._conversation(template, body, deadline_s)
        except TurnpikeError as error:
            raise prompt_failure(error) from error

    async def _conversation(
        self, template: ChatTemplate, body: Body, deadline_s: float
    ) -> tuple[str, Sequence[Image]]:
        source = body.get("chat_template", _NULL)
        messages, kwargs = body.get("messages", _NULL), body.get("chat_template_kwargs", b"")
        if bytes(kwargs) == b"null":
            kwargs = b""
        if source == _NULL:
            conversation = template.read(messages, kwargs)
            return template.render(conversation), conversation.images
        conversation = template.read(messages, kwargs, form=_CLIENTS_FORM)
        prompt = await self._rendered(template, source, conversation, deadline_s)
        return prompt, conversation.images

    async def images(self, images: Sequence[Image], *, deadline_s: float) -> tuple[str, ...]:
        """Return images as base64, in order; those named by https are fetched.

        Raises:
            ProviderError: REJECTED, with `param` naming one that cannot be had.
        """
        remote = [ImageUrl(*image) for image in images if image.url[:5].lower() != "data:"]
        fetched: Sequence[bytes] = ()
        if remote:
            if self._tools is None:
                raise unsupported(
                    "messages", "name images by URL, which this deployment does not fetch"
                )
            fetched = await self._tools.fetcher.fetch(remote, deadline_s=deadline_s)
        by_place = {
            image.where: base64.b64encode(data).decode()
            for image, data in zip(remote, fetched, strict=True)
        }
        return tuple(
            by_place.get(image.where) or image.url.partition(_BASE64)[2] for image in images
        )

    async def _rendered(
        self,
        template: ChatTemplate,
        source: msgspec.Raw,
        conversation: Conversation,
        deadline_s: float,
    ) -> str:
        if self._tools is None:
            raise unsupported("chat_template")
        try:
            text = _text.decode(source)
        except msgspec.DecodeError:
            text = ""
        if not text or len(text.encode()) > TEMPLATE_BYTES_MAX:
            raise rejected("chat_template", f"must be text of at most {TEMPLATE_BYTES_MAX} bytes")
        workers = self._tools.workers
        job = template.job(text, conversation, chars_max=workers.limits.output_chars_max)
        return template.without_bos(await workers.render(job, deadline_s=deadline_s))


def prompt_failure(error: TurnpikeError) -> Exception:
    """Return what a provider says of a refusal; other troubles are nobody's answer but ours."""
    failures = {
        Reason.INVALID_VALUE: Failure.REJECTED,
        Reason.UNSUPPORTED_PARAMETER: Failure.UNSUPPORTED,
    }
    failure = failures.get(error.reason)
    if failure is None:
        return error
    return ProviderError(failure, error.message, status=400, param=error.metadata.get("param", ""))
