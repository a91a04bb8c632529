"""Promotional credit: what of a balance was a gift, when it ends, and what it paid for."""
