"""Test-time strategies, one a file: each turns a generator and a question into one completion."""
