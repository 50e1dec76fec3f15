"""Benchmarks over an OpenAI-compatible endpoint: test-time strategies, metrics, the resumable runner and the HTML
report.
"""
