"""Test-time strategies, one per file: each turns a generator and a question into one completion."""
