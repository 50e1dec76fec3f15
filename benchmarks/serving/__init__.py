"""Measurements of the served application: against vLLM's own server, under hostile requests, and over time."""
