"""OpenAI's request and answer shapes; pure."""
