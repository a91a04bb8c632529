"""Fixtures of a whole site for the rows."""

from tests.fixtures.gateway import migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]
