"""Fixtures: a whole site in this process, with the gateway on a real socket."""

from tests.fixtures.gateway import migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]
