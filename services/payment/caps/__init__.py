"""Spend caps of accounts, keys and episodes: what they bound, what is used, who sets them."""
