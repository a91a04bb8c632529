"""Questions of a caller about its own account: who asks is checked, how many ask is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import grpc
from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode
from gateway.principal import Principal
from gateway.serve import JSON_TYPE, ended_by
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc

_ADMIN: Final = "admin"
_PARAMETERS: Final = {"page_token": "page", "model_id": "model"}
"""What callers call the fields that a room names."""


class Asker(NamedTuple):
    """A verified caller; one that `is_admin` may see and change what is other keys'."""

    principal: Principal
    is_admin: bool

    @property
    def own_key_id(self) -> str:
        """The key that it is bound to; empty for an admin."""
        return "" if self.is_admin else self.principal.key_id


@asynccontextmanager
async def asking(
    deps: Deps, request: web.BaseRequest, exchange: Exchange, scope: str
) -> AsyncIterator[Asker]:
    """Identify who asks, and count it among the requests that run.

    Raises:
        TurnpikeError: The refusal of the credential, OVERLOADED, or what a room said.
    """
    caller = await deps.admission.identify(request.headers, exchange.dialect, scope)
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    running = deps.running.enter(exchange.key_id)
    try:
        yield Asker(caller.principal, _ADMIN in caller.verdict.scopes)
    except grpc.RpcError as error:
        raise _renamed(error_from_rpc(error)) from error
    except asyncio.CancelledError:
        raise ended_by(running) from None
    finally:
        deps.running.leave(running)


def _renamed(error: TurnpikeError) -> TurnpikeError:
    if (name := error.metadata.get("param")) in _PARAMETERS:
        error.metadata["param"] = _PARAMETERS[name]
        error.message = error.message.replace(name, _PARAMETERS[name])
    return error


def answered(deps: Deps, exchange: Exchange, value: object) -> web.Response:
    """Return a JSON answer that no cache may keep."""
    exchange.report.request_id = deps.new_id()
    headers = {
        "Content-Type": JSON_TYPE,
        "Cache-Control": "no-store",
        "X-Request-Id": exchange.report.request_id,
    }
    return web.Response(body=encode(value), headers=headers)


def check_key(asker: Asker, key_id: str) -> str:
    """Return the key whose figures are shown: the one asked for, or the asker's own.

    Raises:
        TurnpikeError: KEY_SCOPE, it is another one's.
    """
    if key_id and asker.own_key_id not in ("", key_id):
        raise TurnpikeError(
            Reason.KEY_SCOPE,
            "To see what other keys use the key needs the scope admin.",
            param="key_id",
        )
    return key_id or asker.own_key_id
