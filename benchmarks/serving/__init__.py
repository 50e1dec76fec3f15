"""Measures the served application: against vLLM's own server, under requests that nobody should send, and over time."""
