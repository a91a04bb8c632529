"""All settings of a process: the one reader of the environment and of `turnpike.yaml`.

Flags win over `TURNPIKE__ROUTER__ATTEMPTS_MAX` in the environment, those over secret files, those
over `turnpike.yaml`, those over defaults; value by value. Unknown keys are refused with their
place. The `catalogue` of the file belongs to the router, which reads it by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings_layers import (
    ConfigError,
    Layer,
    leaves,
    merge,
    read_env,
    read_file,
    read_secrets,
)
from app.settings_sections import (
    AdminSettings,
    DatabaseSettings,
    FirstRunSettings,
    LifecycleSettings,
    NatsSettings,
    PeersSettings,
    TelemetrySettings,
    TritonSettings,
)
from gateway.settings import GatewaySettings
from services.auth.settings import AuthSettings
from services.metering.settings import MeteringSettings
from services.payment.settings import PaymentSettings
from services.router.settings import RouterSettings

CONFIG_NAME: Final = "turnpike.yaml"
STATE_DIR: Final = Path(".turnpike")
_DATABASE_KEY: Final = "database_url"
_SHARED_BY_AUTH: Final = ("key_prefix", "imported_prefixes")


class Settings(BaseSettings):
    """Everything that can be set; a start without any of it works."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    state_dir: Path = Field(
        STATE_DIR, description="Folder of databases, journals, logs of children and made secrets."
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder of secret files, such as admin__token for admin.token; absent: none.",
    )
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    router: RouterSettings = Field(default_factory=RouterSettings)
    metering: MeteringSettings = Field(default_factory=MeteringSettings)
    payment: PaymentSettings = Field(default_factory=PaymentSettings)
    nats: NatsSettings = Field(default_factory=NatsSettings)
    triton: TritonSettings = Field(default_factory=TritonSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    peers: PeersSettings = Field(default_factory=PeersSettings)
    db: DatabaseSettings = Field(default_factory=DatabaseSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    first_run: FirstRunSettings = Field(default_factory=FirstRunSettings)
    lifecycle: LifecycleSettings = Field(default_factory=LifecycleSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the layers that `load_settings` merged, and from nowhere else."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they come from; `layers` are the upper ones first."""

    settings: Settings
    layers: tuple[Layer, ...]
    config_path: Path | None

    def source(self, path: Sequence[str]) -> str:
        """Return the place that a value comes from; `default` when nothing sets it."""
        for layer in self.layers:
            if layer.holds(path):
                return layer.place(path)
        return "default"


def load_settings(config: Path | None = None, *, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read every layer and return the checked settings.

    Args:
        config: The YAML file; None means `turnpike.yaml` where that exists.
        flags: A tree of values that win over everything.

    Raises:
        ConfigError: Something is wrong; one line for each finding, with its place and key.
    """
    path = config or (Path(CONFIG_NAME) if Path(CONFIG_NAME).is_file() else None)
    layers = [Layer("flag", dict(flags or {})), read_env(Settings)]
    if path is not None:
        layers.append(read_file(path))
        _refuse_secrets(layers[-1])
    secrets_dir = _merged(layers).get("secrets_dir")
    if secrets_dir:
        layers.insert(2, read_secrets(Path(secrets_dir)))
    layers.append(_derived(_merged(layers)))
    try:
        settings = Settings(**_merged(layers))
    except ValidationError as error:
        raise ConfigError("\n".join(_findings(error, layers))) from error
    return Loaded(settings, tuple(layers), path)


def field_at(model: type[BaseModel], path: Sequence[str]) -> object:
    """Return the annotation of the setting at `path`, or None when there is no such field."""
    name, *rest = path
    field = model.model_fields.get(name)
    if field is None:
        return None
    if not rest:
        return field.annotation
    if get_origin(field.annotation) is dict and len(rest) == 1:
        return get_args(field.annotation)[1]
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return field_at(kind, rest)
    return None


def _merged(layers: Sequence[Layer]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for layer in reversed(layers):
        tree = merge(tree, layer.data)
    return tree


def _derived(tree: Mapping[str, Any]) -> Layer:
    """Put databases and roots into the state folder; let the gateway know auth's key prefixes."""
    state_dir = tree.get("state_dir", STATE_DIR)
    rooms = [
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and _DATABASE_KEY in field.annotation.model_fields
    ]
    data: dict[str, Any] = {
        room: {_DATABASE_KEY: f"sqlite+aiosqlite:///{state_dir}/{room}.db"} for room in rooms
    }
    data["payment"]["proof"] = {"roots_path": f"{state_dir}/roots.jsonl"}
    prefixes = {
        name: value
        for name, value in (tree.get("auth") or {}).items()
        if name in _SHARED_BY_AUTH and name in GatewaySettings.model_fields
    }
    return Layer("derived", merge(data, {"gateway": prefixes}), source="derived")


def _refuse_secrets(layer: Layer) -> None:
    for path, value in leaves(layer.data):
        annotation = field_at(Settings, path)
        if value and SecretStr in (annotation, *get_args(annotation)):
            name = "TURNPIKE__" + "__".join(path).upper()
            raise ConfigError(
                f"{layer.place(path)}: {'.'.join(path)}: a secret does not belong into the file;"
                f" set {name} or put it into a secret file."
            )


def _findings(error: ValidationError, layers: Sequence[Layer]) -> list[str]:
    found = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        path = list(item["loc"])
        while path and not any(layer.holds(path) for layer in layers):
            path.pop()
        place = next((layer.place(path) for layer in layers if layer.holds(path)), "settings")
        name = ".".join(str(step) for step in path) or "settings"
        is_unknown = item["type"] == "extra_forbidden"
        message = "there is no such setting" if is_unknown else item["msg"].rstrip(".")
        found.append(f"{place}: {name}: {message}.")
    return list(dict.fromkeys(found))
