"""The router's border: messages in, messages out, no brain."""

from collections.abc import AsyncIterator, Callable

import msgspec
from grpc import aio

from kit.tracing import Tracing
from services.router.capabilities import parameters
from services.router.catalog import Catalogue, Deployment, Function, Model
from services.router.dispatch import Dispatcher
from services.router.providers.port import Batch
from services.router.traces import dispatched
from services.router.usage_events import price_message
from turnpike.router.v1 import router_pb2, router_pb2_grpc

Context = aio.ServicerContext[router_pb2.RunRequest, Batch]


class RouterServicer(router_pb2_grpc.RouterServiceServicer):
    """Serves `turnpike.router.v1.RouterService`."""

    def __init__(
        self, *, dispatcher: Dispatcher, catalogue: Callable[[], Catalogue], tracing: Tracing
    ) -> None:
        self._dispatcher = dispatcher
        self._catalogue = catalogue
        self._tracing = tracing

    async def ListModels(
        self,
        request: router_pb2.ListModelsRequest,
        context: aio.ServicerContext[router_pb2.ListModelsRequest, router_pb2.ListModelsResponse],
    ) -> router_pb2.ListModelsResponse:
        catalogue = self._catalogue()
        models = [m for m in catalogue.models if m.model_id > request.page_token]
        size = request.page_size or len(models) or 1
        page = models[:size]
        return router_pb2.ListModelsResponse(
            models=[_model(model) for model in page],
            next_page_token=page[-1].model_id if len(models) > size else "",
            generation=catalogue.generation,
            functions=() if request.page_token else map(_function, catalogue.functions),
        )

    def Run(self, request: router_pb2.RunRequest, context: Context) -> AsyncIterator[Batch]:
        above = self._tracing.continued(request.envelope.traceparent)
        if above is None:
            return self._dispatcher.run(request)
        return dispatched(self._tracing, above, request, self._dispatcher.run)

    async def EndRun(
        self, request: router_pb2.EndRunRequest, context: Context
    ) -> router_pb2.EndRunResponse:
        self._dispatcher.sliced.end(
            request.request_id, request.completion_token_count, is_whole=request.is_whole
        )
        return router_pb2.EndRunResponse()

    async def ExplainRoute(
        self,
        request: router_pb2.ExplainRouteRequest,
        context: aio.ServicerContext[
            router_pb2.ExplainRouteRequest, router_pb2.ExplainRouteResponse
        ],
    ) -> router_pb2.ExplainRouteResponse:
        decision = self._dispatcher.explain(request)
        answer = router_pb2.ExplainRouteResponse(candidates=decision.explained())
        first = next(decision.tries(), None)
        answer.decision.CopyFrom(decision.message(first.name if first is not None else ""))
        answer.snapshot.MergeFromString(decision.snapshot.data)
        return answer


def _model(model: Model) -> router_pb2.Model:
    return router_pb2.Model(
        model_id=model.model_id,
        aliases=model.aliases,
        owner=model.owner,
        context_length=model.context_length,
        default_max_tokens=model.default_max_tokens,
        ceiling_price=price_message(model.ceiling),
        floor_price=price_message(model.floor),
        prompt_tokens_per_kilobyte_max=model.prompt_tokens_per_kilobyte_max,
        image_tokens_max=model.image_tokens_max,
        file_tokens_max=model.file_tokens_max,
        create_unix_s=model.create_unix_s,
        supported_parameters=parameters(
            frozenset[str]().union(*(each.capabilities for each in model.deployments))
        ),
        places=map(_place, model.deployments),
        operations=model.operations,
    )


def _place(deployment: Deployment) -> router_pb2.Place:
    return router_pb2.Place(
        deployment=deployment.name,
        provider=deployment.provider,
        upstream_model=deployment.upstream_model,
        adapters=deployment.adapters,
    )


def _function(function: Function) -> router_pb2.Function:
    return router_pb2.Function(
        name=function.name,
        model_id=function.model_id,
        defaults_json=msgspec.json.encode(function.defaults),
        overridable=function.overridable,
    )
