"""Plumbing without a business word."""
