"""Evaluation at an OpenAI-compatible endpoint: strategies, the resumable runner, metrics and the HTML report."""
