"""The machine rail: requests that pay for themselves, without a key."""
