"""The gRPC port for internal teams: the router's service, behind the same admission as HTTP.

Health and reflection are open to everyone who reaches the port; everything else needs a key. How
long calls, connections and messages may be is bounded here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from grpc import aio
from pydantic import SecretStr

from gateway.access import finish
from gateway.deps import Deps
from gateway.errors import error_headers, limit_headers_of, status_of
from gateway.exchange import Exchange
from gateway.grpc_answer import RUN, RUN_ROUTE, Context, GrpcCall, metadata
from gateway.grpc_identity import Identities, server_credentials
from gateway.grpc_request import Apis
from gateway.inquiry import inquire
from gateway.openai.dialect import OPENAI
from gateway.routes.route import EXPLAIN, explained
from gateway.serve import serve_by
from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError
from kit.rpc.limits import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S
from kit.rpc.server import Server, Terms, open_server
from kit.rpc.status import code_of, internal_error, trailers_of
from turnpike.router.v1 import router_pb2, router_pb2_grpc

SERVICE: Final = "turnpike.router.v1.RouterService"
LIST_ROUTE: Final = f"grpc {SERVICE}/ListModels"
EXPLAIN_ROUTE: Final = f"grpc {SERVICE}/ExplainRoute"
PAGE_SIZE_MAX: Final = 10_000
ENVELOPE_BYTES_MAX: Final = 64 * 1024
"""What a message may have beyond the longest body."""
SPARE_CALLS: Final = 256
"""Calls beyond `requests_max`, for health, reflection and refusals."""
CONNECTION_AGE_S: Final = 3600
CONNECTION_AGE_GRACE_S: Final = 1800
"""A connection is sent away after an hour, and cut when its calls outlive this grace."""
_CLOSE_S: Final = 1.0
_CLIENT_CLOSED: Final = 499
T = TypeVar("T")


class RouterFacade(router_pb2_grpc.RouterServiceServicer):
    """Serves `turnpike.router.v1.RouterService` to whoever has a key."""

    def __init__(self, deps: Deps, identities: Identities) -> None:
        self._deps = deps
        self._identities = identities
        settings = deps.settings
        self._apis = Apis(settings.media_timeout_max_ms, settings.upload_bytes_max)

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: Context
    ) -> router_pb2.ListModelsResponse:
        exchange = Exchange(OPENAI, self._deps.clock.monotonic_s(), route=LIST_ROUTE)
        return await self._answered(exchange, context, self._list(request, context, exchange))

    async def Run(self, request: router_pb2.RunRequest, context: Context) -> None:  # type: ignore[override] # it writes its answer by itself
        exchange = Exchange(OPENAI, self._deps.clock.monotonic_s(), route=RUN_ROUTE)
        call = GrpcCall(request, context, self._identities)
        running = serve_by(RUN, self._deps, call, exchange, self._apis.of(request.envelope))
        await self._answered(exchange, context, running)

    async def EndRun(
        self, request: router_pb2.EndRunRequest, context: Context
    ) -> router_pb2.EndRunResponse:
        raise TurnpikeError(Reason.METHOD_NOT_ALLOWED, "EndRun is the gateway's own.")

    async def ExplainRoute(
        self, request: router_pb2.ExplainRouteRequest, context: Context
    ) -> router_pb2.ExplainRouteResponse:
        exchange = Exchange(OPENAI, self._deps.clock.monotonic_s(), route=EXPLAIN_ROUTE)
        return await self._answered(exchange, context, self._explain(request, context, exchange))

    async def _explain(
        self, request: router_pb2.ExplainRouteRequest, context: Context, exchange: Exchange
    ) -> router_pb2.ExplainRouteResponse:
        asked = router_pb2.RunRequest(envelope=request.envelope, body=request.body)
        call = GrpcCall(asked, context, self._identities)
        ticket = await inquire(self._deps, call, exchange, EXPLAIN, read=RUN.read)
        found = await explained(self._deps, ticket)
        # What prices and loads stand behind the choice is the owner's.
        found.ClearField("snapshot")
        return found

    async def _list(
        self, request: router_pb2.ListModelsRequest, context: Context, exchange: Exchange
    ) -> router_pb2.ListModelsResponse:
        headers = self._identities.headers(context)
        caller = await self._deps.admission.identify(headers, exchange.dialect, "models")
        size = request.page_size
        if not 0 <= size <= PAGE_SIZE_MAX:
            raise TurnpikeError(
                Reason.INVALID_VALUE,
                f"page_size is {size}; it must be from 0 to {PAGE_SIZE_MAX}.",
                param="page_size",
            )
        visible = [known.message for known in self._deps.models.visible(caller.verdict)]
        models = [model for model in visible if model.model_id > request.page_token]
        page = models[: size or None]
        return router_pb2.ListModelsResponse(
            models=map(_shown, page),
            next_page_token=page[-1].model_id if len(models) > len(page) else "",
        )

    async def _answered(self, exchange: Exchange, context: Context, work: Awaitable[T]) -> T:
        """Return what `work` answers; end the call as its error deserves, and log it."""
        deps, report, status = self._deps, exchange.report, 200
        try:
            answer = await work
        except TurnpikeError as error:
            report.error, status = error, status_of(error)
        except (asyncio.CancelledError, aio.BaseError):
            # The client left, before or while something was written to it.
            finish(deps, exchange, _CLIENT_CLOSED)
            raise
        except Exception:
            report.error, status = internal_error(), 500
            deps.log.exception("request_failed", request_id=report.request_id)
        refused = report.error
        if refused is None:
            finish(deps, exchange, status)
            return answer
        if refused.reason is Reason.CLIENT_CLOSED_REQUEST:
            status = _CLIENT_CLOSED
        request_id = report.request_id or refused.metadata.get("request_id") or deps.new_id()
        report.request_id = request_id
        finish(deps, exchange, status)
        await context.abort(code_of(refused), refused.message, self._trailers(exchange, refused))
        raise AssertionError("An aborted call went on.")

    def _trailers(self, exchange: Exchange, error: TurnpikeError) -> tuple[tuple[str, Any], ...]:
        headers = {"X-Request-Id": exchange.report.request_id}
        if (wait_s := error_headers(error).get("Retry-After")) is not None:
            headers["Retry-After"] = error.metadata["retry_after_s"] = wait_s
        if exchange.caller is not None:
            headers |= self._deps.admission.rate_headers(exchange.caller)
        headers |= limit_headers_of(error)
        error.metadata["request_id"] = exchange.report.request_id
        return (*trailers_of(error), *metadata(headers))


@asynccontextmanager
async def open_grpc(deps: Deps, keys: Mapping[str, SecretStr]) -> AsyncIterator[Server]:
    """Listen for gRPC where the settings say; on exit what still runs is cut.

    Args:
        deps: The gateway's parts.
        keys: The API key that a client certificate stands for, by the name in the certificate.

    Raises:
        OSError: The address cannot be listened on, or a certificate cannot be read.
    """
    settings = deps.settings
    facade = RouterFacade(deps, Identities(keys))
    async with open_server(
        f"{_bracketed(settings.grpc_host)}:{settings.grpc_port}",
        register=lambda server: router_pb2_grpc.add_RouterServiceServicer_to_server(facade, server),
        services=[SERVICE],
        terms=_terms(settings),
        grace_s=_CLOSE_S,
    ) as server:
        yield server


def _terms(settings: GatewaySettings) -> Terms:
    return Terms(
        credentials=server_credentials(settings),
        calls_max=settings.requests_max + SPARE_CALLS,
        request_bytes_max=settings.body_bytes_max + ENVELOPE_BYTES_MAX,
        options=(
            ("grpc.max_concurrent_streams", settings.requests_max),
            ("grpc.max_metadata_size", settings.header_bytes_max),
            ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_S),
            ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_TIMEOUT_S),
            ("grpc.max_connection_idle_ms", round(1000 * settings.idle_connection_s)),
            ("grpc.max_connection_age_ms", 1000 * CONNECTION_AGE_S),
            ("grpc.max_connection_age_grace_ms", 1000 * CONNECTION_AGE_GRACE_S),
        ),
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _shown(model: router_pb2.Model) -> router_pb2.Model:
    """Return what callers see of a model: not where it runs."""
    return router_pb2.Model(
        model_id=model.model_id,
        aliases=model.aliases,
        owner=model.owner,
        context_length=model.context_length,
        default_max_tokens=model.default_max_tokens,
        ceiling_price=model.ceiling_price,
        floor_price=model.floor_price,
        prompt_tokens_per_kilobyte_max=model.prompt_tokens_per_kilobyte_max,
        create_unix_s=model.create_unix_s,
        supported_parameters=model.supported_parameters,
        operations=model.operations,
    )
