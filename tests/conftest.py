"""Fixtures for every tier; each kind lives in its own file under `tests/fixtures`."""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest_plugins = (
    "tests.fixtures.nats",
    "tests.fixtures.databases",
    "tests.fixtures.triton",
    "tests.fixtures.upstreams",
)
