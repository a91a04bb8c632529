"""Settings of the router room."""

from ipaddress import ip_network

from pydantic import BaseModel, Field, field_validator

USAGE_STREAM = "USAGE"
USAGE_SUBJECT = "usage.v1"
CATALOGUE_SUBJECT = "router.catalogue_changed.v1"


class RouterSettings(BaseModel, frozen=True, extra="forbid"):
    """How the router waits, retries, journals and gives up."""

    timeout_max_s: float = Field(
        30.0, gt=0, description="Longest `timeout_ms` a caller may ask for, seconds."
    )
    attempts_max: int = Field(3, ge=1, le=10, description="Upstream calls before giving up.")
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

    @field_validator("fetch_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks
