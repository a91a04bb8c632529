"""Anthropic's Messages API as a client API over the chat form; pure."""
