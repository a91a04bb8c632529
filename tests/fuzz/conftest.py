"""Fixtures of a whole site for the fuzz tier."""

from tests.fixtures.gateway import migrated_rooms

__all__ = ["migrated_rooms"]
