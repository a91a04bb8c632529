"""Spend caps of accounts, keys and episodes: what they bound, what is used of them, who sets them."""
