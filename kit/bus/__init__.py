"""Events between processes: NATS, or memory for tests."""
