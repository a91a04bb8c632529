"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, Anthropic's API."""

from collections.abc import Awaitable

import msgspec
from aiohttp import web

from gateway.anthropic.api import MessagesApi
from gateway.call import ModelCall
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.inquiry import inquire
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE, serve
from gateway.stream import ignored_header


def create_message(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer one message, streamed or whole."""
    return serve(deps, request, exchange, MessagesApi(_betas(request)))


async def count_message_tokens(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Say how many input tokens a message would have, as far as its size tells.

    It counts as one request in the key's rate and costs nothing.
    """
    api = MessagesApi(_betas(request), is_counting=True)
    # A prompt that is too long for the model can be counted all the same.
    ticket = await inquire(deps, request, exchange, api, changed=_without_prompt)
    headers = {
        **deps.admission.rate_headers(ticket.caller),
        "Content-Type": JSON_TYPE,
        "X-Request-Id": exchange.report.request_id,
        "X-Turnpike-Estimated": "true",
    }
    if ticket.call.ignored:
        headers |= ignored_header(ticket.call.ignored)
    return web.Response(body=encode({"input_tokens": api.prompt_tokens}), headers=headers)


def _without_prompt(call: ModelCall) -> ModelCall:
    return msgspec.structs.replace(call, prompt_bytes=0)


def _betas(request: web.BaseRequest) -> list[str]:
    return request.headers.getall("anthropic-beta", [])
