"""Create usage records, their hourly sums, the stream position and dead letters."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_TABLES: Final = ("dead_letters", "stream_position", "usage_hours", "usage_records")
_TOKENS: Final = (
    "prompt_token_count",
    "completion_token_count",
    "cached_prompt_token_count",
    "reasoning_token_count",
)
_HOUR_SUMS: Final = (
    "request_count",
    "prompt_token_count",
    "completion_token_count",
    "charge_nusd",
)


def upgrade() -> None:
    _create_records()
    _create_hours()
    _create_state()


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


def _create_records() -> None:
    op.create_table(
        "usage_records",
        *(_name(name) for name in ("event_id", "account_id", "key_id", "model_id")),
        *(_text(name) for name in ("deployment", "provider", "outcome", "finish_reason")),
        *(_amount(name) for name in _TOKENS),
        sa.Column("usage_source", sa.Integer, nullable=False),
        *(_amount(name) for name in ("charge_nusd", "start_unix_ms", "duration_ms", "ttft_ms")),
        sa.Column("is_streaming", sa.Boolean, nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        _amount("stream_seq"),
        sa.PrimaryKeyConstraint("event_id", name="pk_usage_records"),
    )
    for owner in ("account_id", "key_id"):
        op.create_index(f"ix_usage_records_{owner}_event_id", "usage_records", [owner, "event_id"])


def _create_hours() -> None:
    op.create_table(
        "usage_hours",
        _amount("hour_unix_ms"),
        *(_name(name) for name in ("account_id", "key_id", "model_id")),
        *(_amount(name) for name in _HOUR_SUMS),
        sa.PrimaryKeyConstraint(
            "hour_unix_ms", "account_id", "key_id", "model_id", name="pk_usage_hours"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_usage_hours_account_id_hour_unix_ms", "usage_hours", ["account_id", "hour_unix_ms"]
    )


def _create_state() -> None:
    op.create_table(
        "stream_position",
        _text("stream"),
        _amount("applied_seq"),
        sa.Column("ahead", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_stream_position"),
    )
    op.create_table(
        "dead_letters",
        _amount("stream_seq"),
        sa.Column("position", sa.Integer, nullable=False),
        _text("reason"),
        sa.Column("data", sa.LargeBinary, nullable=False),
        _amount("unix_ms"),
        sa.PrimaryKeyConstraint("stream_seq", "position", name="pk_dead_letters"),
    )


def _name(name: str) -> sa.Column[Any]:
    return sa.Column(name, _NAME, nullable=False)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String, nullable=False)


def _amount(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)
