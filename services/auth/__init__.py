"""Accounts, keys and rate limits."""
