"""Usage records and roll-ups."""
