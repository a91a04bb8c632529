"""What the metering room can be told; every figure has its unit in its name."""

from pydantic import BaseModel, Field


class MeteringSettings(BaseModel, frozen=True, extra="forbid"):
    """How usage is read from the stream, stored and listed."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.turnpike/metering.db",
        description="SQLAlchemy URL of the room's own database, SQLite or PostgreSQL.",
    )
    fetch_max: int = Field(256, ge=1, le=4_096, description="Deliveries fetched at once.")
    fetch_wait_s: float = Field(
        5.0, gt=0, description="How long a fetch waits for the first delivery, seconds."
    )
    # With the router's flush a finished request is listed about half a second after its end.
    linger_s: float = Field(
        0.4,
        ge=0,
        le=0.5,
        description="Pause after a fetch that was not full, so that events gather, seconds.",
    )
    # Some 1,500 events: more would save nothing and keep the event loop waiting for their thread.
    apply_bytes_max: int = Field(
        512 * 1024,
        ge=1,
        description="Size of what one transaction takes, bytes; a larger delivery goes alone.",
    )
    retry_s: float = Field(
        0.5, gt=0, description="Pause before a transaction that failed is repeated, seconds."
    )
    write_s: float = Field(15.0, gt=0, description="Deadline of one transaction, seconds.")
    query_s: float = Field(5.0, gt=0, description="Deadline of one page of a listing, seconds.")
    decisions_kept_s: float = Field(
        7 * 24 * 3600.0, gt=0, description="How long it is kept how routes were chosen, seconds."
    )
    forget_every_s: float = Field(
        3600.0, gt=0, description="Between two times that old decisions are deleted, seconds."
    )
    stream_bytes_max: int = Field(
        8 * 1024**3, gt=0, description="Size of the usage stream, bytes; full refuses new events."
    )
    stream_age_max_s: float = Field(
        7 * 24 * 3600.0, gt=0, description="How long the usage stream keeps events, seconds."
    )
    stream_duplicate_window_s: float = Field(
        600.0, gt=0, description="How long the usage stream drops repeated message ids, seconds."
    )
    stream_replicas: int = Field(1, ge=1, le=5, description="Copies of the usage stream.")
