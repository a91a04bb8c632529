"""The HTTP facade: OpenAI JSON and SSE outside, one router stream inside."""
