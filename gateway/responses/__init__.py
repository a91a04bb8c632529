"""OpenAI's Responses as a client API over chat completions; pure."""
