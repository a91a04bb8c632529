"""What a caller is told about its own account: balance, caps, episodes and usage; pure."""
