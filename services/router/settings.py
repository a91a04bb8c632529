"""Settings of the router room."""

from ipaddress import ip_network
from typing import Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from kit.sealed import ring_of
from services.router.sealed import SealingRing

USAGE_STREAM = "USAGE"
USAGE_SUBJECT = "usage.v1"
CATALOGUE_SUBJECT = "router.catalogue_changed.v1"
KEYS_SUBJECT = "router.provider_key_changed.v1"


class RouterSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """How the router waits, retries, journals and gives up."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.turnpike/router.db",
        description="SQLAlchemy URL of the room's own database, which keeps the keys that accounts"
        " bring for providers; several routers share one. Empty: no account can bring any.",
    )
    byok_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Master keys that those keys are sealed with, by id: 32 bytes in base64, as"
        " TURNPIKE__ROUTER__BYOK_KEYS__ID or the secret file router__byok_keys__id. Empty means one"
        " is made and kept under the state folder where the database is SQLite.",
    )
    byok_key_id: str = Field(
        "",
        description="Id of the master key that seals, the others only open; empty where there is"
        " one only.",
    )
    byok_keys_max: int = Field(
        10_000, ge=1, description="Accounts' keys kept in memory; beyond, they are read when used."
    )
    byok_refresh_s: float = Field(
        30.0, gt=0, description="Between two readings of all accounts' keys, seconds."
    )
    byok_stale_max_s: float = Field(
        900.0,
        gt=0,
        description="How long keys that were read hold while their database is away, seconds.",
    )
    timeout_max_s: float = Field(
        30.0, gt=0, description="Longest `timeout_ms` a caller may ask for, seconds."
    )
    attempts_max: int = Field(
        3,
        ge=1,
        le=10,
        description="Upstream calls before giving up; the last one tried may get two.",
    )
    retry_share: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Most calls beyond a request's first, as a share of the requests of late.",
    )
    hedge_share: float = Field(
        0.0,
        ge=0,
        le=0.05,
        description="Most requests whose late first token is sought at a second native deployment"
        " too; 0 turns that off.",
    )
    attempt_min_s: float = Field(
        2.0, gt=0, description="Least time one attempt gets while time is left, seconds."
    )
    idle_s: float = Field(
        60.0, gt=0, description="Longest silence between two reads of a stream, seconds."
    )
    stream_total_s: float = Field(900.0, gt=0, description="Longest life of a stream, seconds.")
    connect_timeout_s: float = Field(3.0, gt=0, description="Connecting to an upstream, seconds.")
    connections_max: int = Field(
        1024, ge=1, description="Open connections to one upstream; more requests are refused."
    )
    probe_interval_s: float = Field(
        2.0, gt=0, description="Between two free probes of an upstream that failed, seconds."
    )
    checkpoint_s: float = Field(
        1.0, gt=0, description="Between two checkpoints of a running stream, seconds."
    )
    checkpoint_tokens: int = Field(
        256, ge=1, description="Tokens after which a running stream is checkpointed."
    )
    hold_renew_s: float = Field(
        20.0, gt=0, le=30, description="Between two renewals of a running request's hold, seconds."
    )
    # A batch costs the bus and both readers the same for one event as for hundreds, and a request
    # that ends within the pause needs no intent. It also bounds what is published: one batch each.
    flush_s: float = Field(
        0.1, gt=0, description="Linger before usage events are published, seconds."
    )
    watermark_s: float = Field(
        1.0, gt=0, description="Between two watermarks when nothing happens, seconds."
    )
    batch_events_max: int = Field(1_024, ge=1, description="Usage events in one published batch.")
    journal_bytes_max: int = Field(
        256 * 1024**2, ge=1024**2, description="Unpublished usage kept on disk before 503, bytes."
    )
    journal_is_synced: bool = Field(
        default=False, description="Whether the journal is also synced against power loss."
    )
    drain_s: float = Field(30.0, gt=0, description="Longest wait for running requests, seconds.")
    reload_poll_s: float = Field(
        1.0, gt=0, description="Between two looks at the catalogue file, seconds."
    )
    stream_replicas: int = Field(1, ge=1, le=5, description="Copies of the usage stream in NATS.")
    fetch_ports: tuple[int, ...] = Field(
        (443,), description="Ports that images named by a client may be fetched from, by https."
    )
    fetch_networks: tuple[str, ...] = Field(
        (),
        description="Private networks that images may be fetched from all the same, such as"
        " 10.1.2.0/24.",
    )
    fetch_ca_file: str = Field(
        "", description="Certificates to trust when fetching images; the system's when empty."
    )
    fetch_timeout_s: float = Field(5.0, gt=0, description="Fetching one image, seconds.")
    fetch_bytes_max: int = Field(
        10 * 1024**2, ge=1024, description="Longest image that is fetched, bytes."
    )
    fetches_max: int = Field(16, ge=1, description="Images that are fetched at once.")
    template_workers_max: int = Field(
        2, ge=1, description="Processes that render clients' chat templates; none before the first."
    )
    template_timeout_s: float = Field(
        1.0, gt=0, description="Rendering a client's chat template, seconds; then it is killed."
    )
    template_memory_bytes: int = Field(
        256 * 1024**2, ge=96 * 1024**2, description="Memory of a process that does, bytes."
    )
    template_output_chars_max: int = Field(
        4 * 1024**2, ge=1024, description="Longest prompt that a client's chat template may write."
    )

    turn_state_keys: SecretStr = Field(
        SecretStr(""),
        description="Seal what models want back with the next turn: base64url of 32 bytes, several"
        " with commas between them, of which the first one seals. All routers need the same;"
        " made and kept under the state folder when empty.",
    )
    turn_state_ttl_s: float = Field(
        3600.0, gt=0, description="How long that is kept in NATS, seconds."
    )
    turn_state_bytes_max: int = Field(
        256 * 1024**2, ge=1024**2, description="What of it is kept in NATS, bytes; the oldest goes."
    )

    @field_validator("turn_state_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr) -> SecretStr:
        if text := keys.get_secret_value():
            ring_of(text)
        return keys

    @model_validator(mode="after")
    def _has_master_key(self) -> Self:
        self.sealing_ring()
        return self

    def sealing_ring(self) -> SealingRing:
        """Return the master keys.

        Raises:
            ValueError: A key is none, or it is not said which of several seals.
        """
        current = self.byok_key_id or next(iter(self.byok_keys), "")
        if self.byok_keys and current not in self.byok_keys:
            raise ValueError(f"byok_key_id is {current}, and byok_keys has none of that id")
        if len(self.byok_keys) > 1 and not self.byok_key_id:
            raise ValueError("byok_keys has several keys; byok_key_id has to say which one seals")
        return SealingRing(self.byok_keys, current)

    @field_validator("fetch_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks
