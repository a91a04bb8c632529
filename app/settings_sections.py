"""The settings that belong to no room: where things listen, where state lies, what is embedded.

The rooms' own settings live beside the rooms; `app.settings` composes them all.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

Embedded = Literal["auto"] | bool
Port = Annotated[int, Field(ge=1, le=65_535)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]

ADMIN_PORTS: Final = {
    "all": 3001,
    "gateway": 3001,
    "auth": 3021,
    "router": 3022,
    "metering": 3023,
    "payment": 3024,
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Section(BaseModel, frozen=True, extra="forbid"):
    """What every section has in common: it does not change, and unknown keys are refused."""


class NatsSettings(_Section):
    """The bus: a NATS server of the owner's, or one that Turnpike starts by itself."""

    url: str = Field(
        "", description="URL of a NATS server, nats://host:port; empty means the embedded one's."
    )
    credentials: Path | None = Field(
        None, description="File with the NATS user's credentials or seed; absent means none."
    )
    embedded: Embedded = Field(
        "auto",
        description="Whether to start a nats-server; auto starts one with target all and no url.",
    )
    port: Port = Field(4722, description="Port of the embedded nats-server on 127.0.0.1.")
    sync_interval: str = Field(
        "always",
        pattern=r"^(always|[0-9]+(ms|s|m))$",
        description="When the embedded server syncs its files: always, or a span such as 1s.",
    )
    ready_s: float = Field(15.0, gt=0, description="Longest wait until it is ready, seconds.")

    def address(self) -> str:
        """Return the URL to connect to."""
        return self.url or f"nats://127.0.0.1:{self.port}"

    def is_embedded(self, target: str) -> bool:
        """Return whether this process starts the server."""
        if self.embedded == "auto":
            return target == "all" and not self.url
        return self.embedded


class TritonSettings(_Section):
    """The Triton Inference Server with the tiny model that Turnpike starts by itself."""

    embedded: Embedded = Field(
        "auto",
        description="Whether to start Triton; auto starts it with target all where it can run.",
    )
    grpc_port: Port = Field(3401, description="Its gRPC port on 127.0.0.1.")
    http_port: Port = Field(3400, description="Its HTTP port on 127.0.0.1.")
    metrics_port: Port = Field(3402, description="Its metrics port on 127.0.0.1.")
    python: str = Field(
        ".venv-triton/bin/python",
        description="Python of the environment with nvidia-pytriton; relative to the checkout.",
    )
    launcher: str = Field(
        "examples/triton/launch.py", description="What starts it; relative to the checkout."
    )
    installer: str = Field(
        "examples/triton/environment.py",
        description="What makes a missing environment, relative to the checkout; empty: nothing.",
    )
    install_s: float = Field(600.0, gt=0, description="Longest run of the installer, seconds.")
    ready_s: float = Field(45.0, gt=0, description="Longest wait until it is ready, seconds.")

    def is_embedded(self, target: str) -> bool:
        """Return whether this process starts Triton."""
        return target == "all" if self.embedded == "auto" else self.embedded


class AdminSettings(_Section):
    """The port for probes, metrics and administration."""

    host: str = Field("127.0.0.1", description="Interface to listen on.")
    port: Port | None = Field(
        None,
        description="Port to listen on; absent means 3001 for the targets all and gateway, and"
        " 3021 to 3024 for auth, router, metering and payment alone.",
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token; empty means one is made and kept under the state folder.",
    )
    call_s: float = Field(
        60.0, gt=0, description="Longest run of one administrative call, seconds."
    )
    body_bytes_max: int = Field(1024**2, ge=1024, description="Longest request body, bytes.")

    def port_for(self, target: str) -> int:
        """Return the port of a process that runs `target`."""
        return ADMIN_PORTS[target] if self.port is None else self.port

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if not self.is_loopback and not self.token.get_secret_value():
            raise ValueError(f"host {self.host} is not loopback: admin.token has to be set")
        return self


class PeersSettings(_Section):
    """Where the services find each other when each is a process of its own."""

    auth: Address = Field("127.0.0.1:3011", description="Auth, host:port.")
    router: Address = Field("127.0.0.1:3012", description="Router, host:port.")
    metering: Address = Field("127.0.0.1:3013", description="Metering, host:port.")
    payment: Address = Field("127.0.0.1:3014", description="Payment, host:port.")
    token: SecretStr = Field(
        SecretStr(""),
        description="What services show each other; empty means one is made and kept under the"
        " state folder, which processes on one machine share.",
    )

    @property
    def are_local(self) -> bool:
        """Whether every service is on this machine."""
        addresses = (self.auth, self.router, self.metering, self.payment)
        return all(is_loopback(address.rpartition(":")[0]) for address in addresses)


class DatabaseSettings(_Section):
    """How the rooms' databases are kept in form."""

    auto_upgrade: bool | None = Field(
        None,
        description="Whether a start migrates; absent means yes on SQLite and no on PostgreSQL,"
        " where `turnpike db upgrade` does it.",
    )


class TelemetrySettings(_Section):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important level that is written."
    )
    otlp_endpoint: str = Field("", description="OTLP gRPC endpoint for traces; empty means none.")
    sample_ratio: float = Field(
        0.01, ge=0, le=1, description="Part of the requests that are traced, 0 to 1."
    )


class FirstRunSettings(_Section):
    """What a start does that finds no account."""

    is_enabled: bool = Field(
        default=True, description="Whether the first start of target all makes an account and key."
    )
    credit_usd: str = Field(
        "1.00", pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="Credit of that account, USD."
    )


class LifecycleSettings(_Section):
    """How a process starts and ends."""

    start_s: float = Field(45.0, gt=0, description="Longest start of one part, seconds.")
    drain_s: float = Field(
        40.0, gt=0, description="Longest wait for one part to finish its work and close, seconds."
    )
    leave_s: float = Field(
        0.0,
        ge=0,
        description="Between telling probes that this process ends and ending it, seconds; lets"
        " load balancers notice.",
    )
