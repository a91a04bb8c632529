"""Fixtures for every tier; each kind lives in its own file under `tests/fixtures`."""

import os

# Fixtures start processes from one that runs gRPC: its fork handlers would abort the child
# between fork and exec. Read when grpc is imported, so it is set before anything else.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from hypothesis import settings

from tests.fixtures.plain_logs import plain_logs

plain_logs()
settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest_plugins = (
    "tests.fixtures.nats",
    "tests.fixtures.databases",
    "tests.fixtures.triton",
    "tests.fixtures.upstreams",
    "tests.fixtures.recursion",
    "tests.fixtures.summaries",
)
