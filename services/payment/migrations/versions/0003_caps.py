"""Create spend caps and their use; leases say when and for which episode they were granted."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_OF_LEASES: Final = ("granted_at_unix_ms", "episode_id", "adjusted_nusd")


def upgrade() -> None:
    _extend_leases()
    op.create_table(
        "capped_accounts",
        _key("account_id"),
        sa.Column("cap_count", sa.Integer, nullable=False),
        sa.Column("episode_cap_count", sa.Integer, nullable=False),
        sa.CheckConstraint(
            "episode_cap_count >= 0 AND episode_cap_count <= cap_count",
            name="capped_accounts_count",
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "caps",
        *map(_key, ("account_id", "scope", "subject")),
        sa.Column("window", sa.String, primary_key=True),
        _amount("limit_nusd"),
        sa.CheckConstraint("limit_nusd >= 0", name="caps_not_negative"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cap_use",
        *map(_key, ("account_id", "scope", "subject")),
        sa.Column("window", sa.String, primary_key=True),
        sa.Column("start_unix_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        *map(_amount, ("end_unix_ms", "used_nusd", "folded_nusd", "touched_unix_ms")),
        sa.CheckConstraint("used_nusd >= 0", name="cap_use_not_negative"),
        sqlite_with_rowid=False,
    )
    op.create_index("cap_use_by_age", "cap_use", ["touched_unix_ms"])


def downgrade() -> None:
    for table in ("cap_use", "caps", "capped_accounts"):
        op.drop_table(table)
    op.drop_index("leases_by_episode", "leases")
    for name in _OF_LEASES:
        op.drop_column("leases", name)


def _extend_leases() -> None:
    """Add columns; a lease from before counts as granted when it ends, half a minute later."""
    added: dict[str, tuple[Any, str]] = {
        "granted_at_unix_ms": (sa.BigInteger, "0"),
        "episode_id": (_NAME, ""),
        "adjusted_nusd": (sa.BigInteger, "0"),
    }
    for name, (kind, default) in added.items():
        op.add_column("leases", sa.Column(name, kind, nullable=False, server_default=default))
    op.execute("UPDATE leases SET granted_at_unix_ms = ends_at_unix_ms")
    columns = ["account_id", "episode_id"]
    where = sa.text("episode_id <> ''")
    op.create_index(
        "leases_by_episode", "leases", columns, sqlite_where=where, postgresql_where=where
    )


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, _NAME, primary_key=True)


def _amount(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)
