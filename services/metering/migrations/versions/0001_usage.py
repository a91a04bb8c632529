"""Create usage records, their hourly sums, the stream position and dead letters."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    _create_records()
    _create_hours()
    _create_state()


def downgrade() -> None:
    for table in ("dead_letters", "stream_position", "usage_hours", "usage_records"):
        op.drop_table(table)


def _create_records() -> None:
    op.create_table(
        "usage_records",
        sa.Column("event_id", _NAME, primary_key=True),
        *(sa.Column(name, _NAME, nullable=False) for name in ("account_id", "key_id", "model_id")),
        *(_text(name) for name in ("deployment", "provider", "outcome", "finish_reason")),
        *(
            _figure(name)
            for name in (
                "prompt_token_count",
                "completion_token_count",
                "cached_prompt_token_count",
                "reasoning_token_count",
            )
        ),
        sa.Column("usage_source", sa.Integer, nullable=False),
        *(_figure(name) for name in ("charge_nusd", "start_unix_ms", "duration_ms", "ttft_ms")),
        sa.Column("is_streaming", sa.Boolean, nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        _figure("stream_seq"),
    )
    tail = ["start_unix_ms", "event_id"]
    op.create_index("usage_records_by_start", "usage_records", tail)
    op.create_index("usage_records_by_account", "usage_records", ["account_id", *tail])
    op.create_index("usage_records_by_key", "usage_records", ["key_id", *tail])


def _create_hours() -> None:
    op.create_table(
        "usage_hours",
        sa.Column("hour_unix_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, _NAME, primary_key=True)
            for name in ("account_id", "key_id", "model_id")
        ),
        *(
            _figure(name)
            for name in (
                "request_count",
                "prompt_token_count",
                "completion_token_count",
                "charge_nusd",
            )
        ),
    )
    op.create_index("usage_hours_by_account", "usage_hours", ["account_id", "hour_unix_ms"])


def _create_state() -> None:
    op.create_table(
        "stream_position",
        sa.Column("stream", sa.String, primary_key=True),
        _figure("applied_seq"),
        sa.Column("ahead", sa.Text, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("stream_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        _text("reason"),
        sa.Column("data", sa.LargeBinary, nullable=False),
        _figure("unix_ms"),
    )


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String, nullable=False)


def _figure(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)
