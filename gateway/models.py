"""The gateway's copy of the catalogue: names, bounds and ceiling prices."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import structlog

from gateway.call import Bounds
from gateway.names import Meaning, meanings, plain_name
from gateway.openai.presets import Preset
from gateway.openai.schema import decode_fields
from gateway.settings import GatewaySettings
from gateway.verdicts import Verdict
from kit.errors import Reason, TurnpikeError
from kit.money import round_up_nusd
from kit.rpc.status import error_from_rpc
from turnpike.router.v1 import router_pb2, router_pb2_grpc

CATALOGUE_SUBJECT = "router.catalogue_changed.v1"
_CHAT_ONLY = (router_pb2.OPERATION_UNSPECIFIED,)
_OPERATION_NAMES: Mapping[int, str] = {
    router_pb2.OPERATION_UNSPECIFIED: "chat completions",
    router_pb2.OPERATION_COMPLETION: "text completions",
    router_pb2.OPERATION_EMBEDDING: "embeddings",
    router_pb2.OPERATION_IMAGE: "images",
    router_pb2.OPERATION_SPEECH: "speech",
    router_pb2.OPERATION_TRANSCRIPTION: "transcriptions",
}
_log = structlog.get_logger("gateway.models")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model and what admission reads of it; prices are the ceiling's, pico-USD."""

    message: router_pb2.Model
    model_id: str
    context_length: int
    default_max_tokens: int
    prompt_tokens_per_kilobyte_max: int
    image_tokens_max: int
    file_tokens_max: int
    request_pusd: int
    input_pusd_per_token: int
    output_pusd_per_token: int
    unit_pusd: int = 0
    operations: tuple[int, ...] = _CHAT_ONLY

    @classmethod
    def of(cls, model: router_pb2.Model) -> "KnownModel":
        """Return the router's message with its fields read."""
        return cls(
            message=model,
            model_id=model.model_id,
            context_length=model.context_length,
            default_max_tokens=model.default_max_tokens,
            prompt_tokens_per_kilobyte_max=model.prompt_tokens_per_kilobyte_max,
            image_tokens_max=model.image_tokens_max,
            file_tokens_max=model.file_tokens_max,
            request_pusd=model.ceiling_price.request_pusd,
            input_pusd_per_token=model.ceiling_price.input_pusd_per_token,
            output_pusd_per_token=model.ceiling_price.output_pusd_per_token,
            unit_pusd=model.ceiling_price.unit_pusd,
            operations=tuple(model.operations) or _CHAT_ONLY,
        )

    def not_served(self, operation: int) -> TurnpikeError:
        """Return the refusal of what the model does not do."""
        # A router of a later release may know more than this gateway has names for.
        names = [_OPERATION_NAMES.get(known, "other requests") for known in self.operations]
        return TurnpikeError(
            Reason.INVALID_VALUE,
            f"{self.model_id} serves {' and '.join(names)}, not {_OPERATION_NAMES[operation]}.",
            param="model",
        )

    @property
    def is_sold_by_tokens(self) -> bool:
        """Whether tokens cost anything."""
        return bool(self.input_pusd_per_token or self.output_pusd_per_token)

    def worst_case_nusd(
        self, limit: Bounds, routing: router_pb2.Routing | None, *, unit_count_max: int = 0
    ) -> int:
        """Return the most a request can cost at the dearest price it allows, nano-USD."""
        input_pusd, output_pusd = self.input_pusd_per_token, self.output_pusd_per_token
        request_pusd = self.request_pusd
        if routing is not None:
            if routing.HasField("input_pusd_per_token_max"):
                input_pusd = min(input_pusd, routing.input_pusd_per_token_max)
            if routing.HasField("output_pusd_per_token_max"):
                output_pusd = min(output_pusd, routing.output_pusd_per_token_max)
            if routing.HasField("request_pusd_max"):
                request_pusd = min(request_pusd, routing.request_pusd_max)
        return round_up_nusd(
            request_pusd
            + limit.prompt_tokens_max * input_pusd
            + limit.completion_tokens_max * output_pusd
            + unit_count_max * self.unit_pusd
        )


class Models:
    """Models by every name they have; swapped whole."""

    def __init__(
        self, *, router: "router_pb2_grpc.RouterServiceAsyncStub", settings: GatewaySettings
    ) -> None:
        self._router = router
        self._settings = settings
        self._by_name: Mapping[str, Meaning[KnownModel]] = {}
        self.presets: Mapping[str, Preset] = {}
        self._models: tuple[KnownModel, ...] = ()
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
        self._models = tuple(map(KnownModel.of, answer.models))
        self._by_name = meanings((model.message, model) for model in self._models)
        self.presets = {function.name: _preset(function) for function in answer.functions}
        self.is_loaded = True

    def find(self, name: str, verdict: Verdict) -> Meaning[KnownModel]:
        """Return what a name means to a caller that may use it.

        Raises:
            TurnpikeError: `MODEL_NOT_FOUND`, also for a model that exists but is not the caller's;
                `FUNCTION_NOT_FOUND`; `INVALID_VALUE` when nothing stands behind a prefix.
        """
        found = self._by_name.get(name)
        if found is None and "::" in name:
            functions = {key: preset.model_id for key, preset in self.presets.items()}
            found = self._by_name.get(plain_name(name, functions))
        if found is None or (verdict.models and found.model.model_id not in verdict.models):
            raise TurnpikeError(
                Reason.MODEL_NOT_FOUND, "The model does not exist for this key.", param="model"
            )
        return found

    def visible(self, verdict: Verdict) -> list[KnownModel]:
        """Return the models the caller may use."""
        return [
            model
            for model in self._models
            if not verdict.models or model.model_id in verdict.models
        ]

    def visible_presets(self, verdict: Verdict) -> dict[str, KnownModel]:
        """Return the functions the caller may use, with the model of each."""
        return {
            name: self._by_name[preset.model_id].model
            for name, preset in self.presets.items()
            if not verdict.models or preset.model_id in verdict.models
        }


def _preset(function: router_pb2.Function) -> Preset:
    return Preset(
        function.model_id, decode_fields(function.defaults_json), frozenset(function.overridable)
    )
