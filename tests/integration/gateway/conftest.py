"""Fixtures: a whole site in this process, with the gateway on a real socket."""

from tests.fixtures.gateway import migrated_rooms, open_site, site
from tests.fixtures.media import media, open_media

__all__ = ["media", "migrated_rooms", "open_media", "open_site", "site"]
