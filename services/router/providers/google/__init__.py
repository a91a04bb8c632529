"""Gemini and Vertex AI."""
