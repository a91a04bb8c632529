"""Fixtures: a whole site in this process, for what two ways in must have in common."""

from tests.fixtures.gateway import migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]
