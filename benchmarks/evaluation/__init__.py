"""Measurements of the eval stage's runner: its overhead over a bare loop of requests, and its memory."""
