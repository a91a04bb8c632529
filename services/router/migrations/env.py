"""Alembic's entry: runs the scripts of this room on the connection it is given."""

from kit.db import run_migrations

run_migrations()
