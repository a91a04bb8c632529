"""Settings of the gateway."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from gateway.machine.settings import MachinePaymentSettings

Reference = Annotated[str, Field(pattern=r"^(file:.+|\$\{[A-Z][A-Z0-9_]*\})$")]
"""Where a secret stands, never the secret itself: `file:/path` or `${VARIABLE}`."""


class GatewaySettings(BaseModel, frozen=True, extra="forbid"):
    """How the HTTP facade listens, limits and waits."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    body_bytes_max: int = Field(4 * 1024**2, ge=1024, description="Longest request body, bytes.")
    media_body_bytes_max: int = Field(
        32 * 1024**2,
        ge=1024,
        le=32 * 1024**2,
        description="Longest body that carries images, files or recordings, bytes; the rest of it"
        " stays within body_bytes_max.",
    )
    long_bodies_bytes_max: int = Field(
        256 * 1024**2,
        ge=1024,
        description="Bodies above body_bytes_max that are held at once, bytes; more are refused.",
    )
    header_bytes_max: int = Field(16 * 1024, ge=1024, description="Longest header line, bytes.")
    head_timeout_s: float = Field(
        10.0, gt=0, description="Longest wait for the headers of a request, seconds."
    )
    body_timeout_s: float = Field(30.0, gt=0, description="Longest wait for a body, seconds.")
    upload_bytes_max: int = Field(
        25 * 1024**2, ge=1024, le=30 * 1024**2, description="Longest file that is sent up, bytes."
    )
    upload_timeout_s: float = Field(120.0, gt=0, description="Longest wait for a file, seconds.")
    # An upload is there three times while it is checked, put together and sent on.
    idle_connection_s: float = Field(75.0, gt=0, description="Keep-alive of idle clients, seconds.")
    connections_max: int = Field(
        10_000, ge=1, description="Open client connections; further ones are refused with 503."
    )
    requests_max: int = Field(4096, ge=1, description="Requests at once; more are refused.")
    timeout_max_ms: int = Field(30_000, ge=1, description="Largest and default `timeout_ms`.")
    media_timeout_max_ms: int = Field(
        300_000, ge=1, description="The same for images, speech and transcriptions."
    )
    header_hold_s: float = Field(
        30.0, gt=0, description="Longest wait for the first content before headers are sent."
    )
    keep_alive_s: float = Field(
        10.0, gt=0, description="Silence before a comment is sent, seconds."
    )
    write_timeout_s: float = Field(
        30.0, gt=0, description="Longest wait for a client that does not read, seconds."
    )
    send_buffer_bytes: int = Field(
        128 * 1024, ge=4096, description="Kernel buffer for one client's answer, bytes."
    )
    key_prefix: str = Field("sk-tp-", min_length=1, description="What our keys start with.")
    imported_prefixes: tuple[str, ...] = Field(
        (), description="What keys brought along from elsewhere start with; no checksum."
    )
    verdict_ttl_s: float = Field(60.0, gt=0, description="Life of a cached key verdict, seconds.")
    verdict_ttl_blind_s: float = Field(
        3.0, gt=0, description="The same while auth's pushes do not arrive, seconds."
    )
    verdict_grace_s: float = Field(
        900.0, ge=0, description="How long a known key lives on while auth cannot be reached."
    )
    verdicts_max: int = Field(100_000, ge=1, description="Key verdicts kept.")
    models_ttl_s: float = Field(60.0, gt=0, description="Life of the cached catalogue, seconds.")
    rpc_timeout_s: float = Field(5.0, gt=0, description="Calls to auth and payment, seconds.")
    billing_timeout_s: float = Field(
        25.0, gt=0, description="Calls to payment that may ask Stripe in turn, seconds."
    )
    lease_requests: int = Field(
        256, ge=1, description="Requests of the current size a credit lease should cover."
    )
    lease_margin_s: float = Field(
        5.0, gt=0, description="Drawing from a lease stops this long before its end, seconds."
    )
    waiters_max: int = Field(
        1024, ge=1, description="Requests of one key that may wait for credit or rate at once."
    )
    path_dialects: dict[str, str] = Field(
        default_factory=lambda: {
            "/v1": "openai",
            "/api/v1": "infer",
            "/vram/v1": "vram",
            "/bud/v1": "bud",
            "/runinfra/v1": "runinfra",
        },
        description="Path prefix to dialect.",
    )
    grpc_is_enabled: bool = Field(
        default=True, description="Whether gRPC is served, for internal teams."
    )
    grpc_host: str = Field("127.0.0.1", description="Address to listen on for gRPC.")
    grpc_port: int = Field(
        3015, ge=0, le=65535, description="Port to listen on for gRPC; 0 takes a free one."
    )
    grpc_tls_cert: Path | None = Field(
        None, description="The gRPC port's certificate chain, PEM; absent means plain text."
    )
    grpc_tls_key: Path | None = Field(None, description="Its private key, PEM.")
    grpc_client_ca: Path | None = Field(
        None, description="Who signs client certificates, PEM; when set, every client needs one."
    )
    grpc_identities: dict[str, Reference] = Field(
        default_factory=dict,
        description="The API key that a client certificate stands for, by URI or DNS name, or by"
        " common name where it has neither; ${VARIABLE} or file:/path, never the key itself.",
    )

    machine_payments: MachinePaymentSettings = Field(
        default_factory=MachinePaymentSettings, description="Requests that pay for themselves."
    )

    @model_validator(mode="after")
    def _has_whole_tls(self) -> Self:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise ValueError("grpc_tls_cert and grpc_tls_key go together")
        if self.grpc_client_ca is not None and self.grpc_tls_cert is None:
            raise ValueError("grpc_client_ca needs grpc_tls_cert and grpc_tls_key")
        if self.grpc_identities and self.grpc_client_ca is None:
            raise ValueError("grpc_identities needs grpc_client_ca")
        return self
