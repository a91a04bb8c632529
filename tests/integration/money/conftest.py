"""Fixtures: a whole site in this process, on both rails."""

from tests.fixtures.gateway import migrated_rooms, open_site, site
from tests.fixtures.paid import open_paid, paid

__all__ = ["migrated_rooms", "open_paid", "open_site", "paid", "site"]
