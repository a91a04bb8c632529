"""The gateway's copy of the catalogue: names, bounds and ceiling prices."""

from collections.abc import Mapping

import grpc
import structlog

from gateway.settings import GatewaySettings
from gateway.verdicts import Verdict
from kit.errors import Reason, TurnpikeError
from kit.money import round_up_nusd
from kit.rpc.status import error_from_rpc
from turnpike.router.v1 import router_pb2, router_pb2_grpc

CATALOGUE_SUBJECT = "router.catalogue_changed.v1"
_log = structlog.get_logger("gateway.models")


class Models:
    """Models by every name they have; swapped whole."""

    def __init__(
        self, *, router: "router_pb2_grpc.RouterServiceAsyncStub", settings: GatewaySettings
    ) -> None:
        self._router = router
        self._settings = settings
        self._by_name: Mapping[str, router_pb2.Model] = {}
        self._models: tuple[router_pb2.Model, ...] = ()
        self.is_loaded = False

    async def refresh(self) -> None:
        """Fetch the catalogue; when the router cannot be asked the old copy stays."""
        try:
            answer = await self._router.ListModels(
                router_pb2.ListModelsRequest(), timeout=self._settings.rpc_timeout_s
            )
        except grpc.RpcError as error:
            _log.warning("catalogue_not_fetched", why=error_from_rpc(error).reason)
            return
        self._models = tuple(answer.models)
        self._by_name = {
            name: model for model in self._models for name in (model.model_id, *model.aliases)
        }
        self.is_loaded = True

    def find(self, name: str, verdict: Verdict) -> router_pb2.Model:
        """Return the model of this name that the caller may use.

        Raises:
            TurnpikeError: `MODEL_NOT_FOUND`, also for a model that exists but is not the caller's.
        """
        model = self._by_name.get(name)
        if model is None or (verdict.models and model.model_id not in verdict.models):
            raise TurnpikeError(
                Reason.MODEL_NOT_FOUND, "The model does not exist for this key.", param="model"
            )
        return model

    def visible(self, verdict: Verdict) -> list[router_pb2.Model]:
        """Return the models the caller may use."""
        return [
            model
            for model in self._models
            if not verdict.models or model.model_id in verdict.models
        ]


def worst_case_nusd(
    model: router_pb2.Model, *, prompt_tokens_max: int, completion_tokens_max: int
) -> int:
    """Return the most a request can cost at the model's ceiling price, nano-USD."""
    price = model.ceiling_price
    return round_up_nusd(
        price.request_pusd
        + prompt_tokens_max * price.input_pusd_per_token
        + completion_tokens_max * price.output_pusd_per_token
    )
