"""Held-out questions that the model answers while it is trained."""
