"""Claude's Messages API, for Anthropic and for those who host Claude; pure."""
