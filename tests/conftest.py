"""Fixtures for every tier; each kind lives in its own file under `tests/fixtures`."""

pytest_plugins = (
    "tests.fixtures.nats",
    "tests.fixtures.databases",
    "tests.fixtures.triton",
    "tests.fixtures.upstreams",
)
