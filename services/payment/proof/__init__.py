"""The bill that proves itself: receipts, signed roots and quotes."""
